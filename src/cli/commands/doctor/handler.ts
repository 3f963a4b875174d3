// SPDX-License-Identifier: Apache-2.0
import type { XdpFact } from "../../../daemon/host-checks.js";
import type { LinkSnapshot } from "../../../dataplane/attach.js";
import { bpfRoot, layoutsAt } from "../../../dataplane/pins.js";
import type { NativeLibrary } from "../../../native/lib.js";
import { errorMessage } from "../../../util/errors.js";
import type { CommonOptions, Handler } from "../../command.js";
import { ExitCode } from "../../exit-codes.js";
import { type DoctorReport, printReport } from "./report.js";

/** The bit of --forward-mark-bit's default. */
export const DEFAULT_MARK_BIT = 13;

export interface DoctorOptions {
  readonly snatPorts?: string;
  readonly forwardMarkBit: number;
}

interface LibraryAnswer extends LinkSnapshot {
  readonly missingFeatures: readonly string[] | null;
  readonly nativeError: string | null;
  readonly xdp: readonly XdpFact[] | null;
}

/** Features that were tried and are not there; null for a user who may not try. */
function missingFeatures(library: NativeLibrary): readonly string[] | null {
  try {
    return library
      .probe()
      .filter(({ available }) => available === false)
      .map(({ name }) => name);
  } catch {
    return null; // the line about privileges says why
  }
}

/** What is at XDP hooks; null for a user who may not look. */
async function xdpFacts(library: NativeLibrary, { links }: LinkSnapshot): Promise<readonly XdpFact[] | null> {
  try {
    const names = new Map(links.map(({ ifindex, name }) => [ifindex, name]));
    const states = await library.xdpStates([...names.keys()]);
    return states.flatMap(({ ifindex, mode, name, programId, ours }) => {
      if (mode === null) return [];
      const program = name || `program ${programId}`;
      return [{ interface: names.get(ifindex) ?? `${ifindex}`, mode, program, ours }];
    });
  } catch {
    return null; // the line about privileges says why
  }
}

/** What the native library says; without it, its error. */
async function askLibrary(): Promise<LibraryAnswer> {
  try {
    const [{ NativeLibrary }, { readLinks }] = await Promise.all([
      import("../../../native/lib.js"),
      import("../../../daemon/hooks.js"),
    ]);
    const library = new NativeLibrary();
    library.verifyObject();
    const seen = readLinks(library);
    const xdp = await xdpFacts(library, seen);
    return { ...seen, missingFeatures: missingFeatures(library), nativeError: null, xdp };
  } catch (error) {
    const nativeError = errorMessage(error);
    const nothing = { links: [], addresses: [], defaultRoutes: new Set<number>(), localAddresses: [] };
    return { ...nothing, missingFeatures: null, nativeError, xdp: null };
  }
}

/** An agent runs here, or has run. False for a user who may not know. */
function hasPins(given: string | undefined): boolean {
  try {
    return layoutsAt(bpfRoot(given)).length > 0;
  } catch {
    return false;
  }
}

/** Looks at this machine. */
export async function examine(
  options: DoctorOptions & Pick<CommonOptions, "bpfRoot">,
): Promise<DoctorReport> {
  const [{ checkHost }, { gatherFacts }, ports, asked] = await Promise.all([
    import("../../../daemon/host-checks.js"),
    import("../../../daemon/host-facts.js"),
    import("../../../daemon/snat-ports.js"),
    askLibrary(),
  ]);
  const snatRanges =
    options.snatPorts === undefined ? ports.DEFAULT_SNAT_RANGES : ports.parsePortRanges(options.snatPorts);
  const agentPinned = hasPins(options.bpfRoot);
  const markBit = options.forwardMarkBit;
  const checks = checkHost(
    await gatherFacts({
      ...asked,
      snatRanges,
      markBit,
      agentPinned,
      bpfRoot: bpfRoot(options.bpfRoot),
    }),
  );
  return { ok: checks.every(({ status }) => status !== "fail"), checks };
}

/** `portolan doctor`. */
export const doctor: Handler<DoctorOptions> = async (options, printer) => {
  const report = await examine(options);
  printReport(report, printer);
  return report.ok ? ExitCode.ok : ExitCode.finding;
};
