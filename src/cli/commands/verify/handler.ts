// SPDX-License-Identifier: Apache-2.0
import type { SocketLb } from "../../../daemon/kernel-options.js";
import type { RepairReport } from "../../../daemon/verify/repair.js";
import type { Against, VerifyReport } from "../../../daemon/verify/verify.js";
import type { Image } from "../../../image/types.js";
import type { NativeLibrary } from "../../../native/lib.js";
import type { CommonOptions, Handler } from "../../command.js";
import { type Desired, readDesired } from "../../desired.js";
import { type DesiredOptions, namesSource } from "../../desired-options.js";
import { ExitCode } from "../../exit-codes.js";
import { withMaps } from "../../open-maps.js";
import type { Printer } from "../../output.js";
import { isRight, printReport } from "./report.js";

export interface VerifyCommandOptions extends DesiredOptions {
  readonly agent?: true;
  readonly repair?: true;
  readonly build: boolean;
  readonly devices?: readonly string[];
  readonly podInterfaces?: readonly string[];
  readonly socketLb: SocketLb;
  readonly cgroupRoot?: string;
  readonly forwardMarkBit: number;
}

type Options = VerifyCommandOptions & CommonOptions;

const sourceKind = ({ kubeconfig }: DesiredOptions): "manifests" | "api" =>
  kubeconfig === undefined ? "manifests" : "api";

/** `portolan verify`. */
export const verify: Handler<VerifyCommandOptions> = async (options, printer) => {
  const desired = namesSource(options) ? await readDesired(options, printer) : null;
  if (options.from !== undefined) return await verifyArchive(options, printer, desired);
  const [{ verify: look }, { repair }, { NativeLibrary }, { bpfRoot, requirePins }, { findCgroup2 }] =
    await Promise.all([
      import("../../../daemon/verify/verify.js"),
      import("../../../daemon/verify/repair.js"),
      import("../../../native/lib.js"),
      import("../../../dataplane/pins.js"),
      import("../../../native/paths.js"),
    ]);
  const root = bpfRoot(options.bpfRoot);
  const pins = requirePins(root);
  const library = new NativeLibrary();
  const cgroup = options.cgroupRoot ?? findCgroup2();
  const against = await againstOf(options, { library, root, cgroup, desired });
  const { build, forwardMarkBit: markBit } = options;
  const settings = { library, root, pins, against, build, markBit };
  const first = await look(settings);
  if (options.repair !== true || isRight(first.report)) return finish(first.report, null, printer);
  const repaired = await repair({ ...settings, cgroup }, first.report, first.seen);
  const second = await look(settings);
  return finish(second.report, repaired, printer);
};

interface Context {
  readonly library: NativeLibrary;
  readonly root: string;
  readonly cgroup: string | null;
  readonly desired: Desired | null;
}

async function againstOf(options: Options, { library, root, cgroup, desired }: Context): Promise<Against> {
  const image = desired && (await imageOf(library, desired));
  if (options.agent === true) {
    const { AgentClient } = await import("../../../daemon/agent-client.js");
    return { kind: "agent", client: new AgentClient(root), source: image };
  }
  if (desired === null || image === null) return { kind: "maps" };
  const { withLocalPods } = await import("../../../daemon/kernel-options.js");
  const { devices = [], podInterfaces = [], socketLb: mode } = options;
  return {
    kind: sourceKind(options),
    image,
    interfaces: withLocalPods({ devices, podInterfaces }, desired.proxy),
    nodeAddresses: desired.snapshot.node.addresses,
    sockets: { mode, cgroup },
  };
}

async function imageOf(library: NativeLibrary, { snapshot, config }: Desired): Promise<Image> {
  const { desiredImage } = await import("../../../daemon/verify/desired-image.js");
  return await desiredImage({ library, snapshot, config });
}

/** Of another machine: without its addresses and listeners, NodePorts are those of the Node object's addresses. */
async function verifyArchive(options: Options, printer: Printer, desired: Desired | null): Promise<ExitCode> {
  const [{ verifyReadings }, { compile }] = await Promise.all([
    import("../../../daemon/verify/verify.js"),
    import("../../../image/compile.js"),
  ]);
  const image = desired && compile(desired.snapshot, desired.config);
  const report = await withMaps(options, ({ maps }) =>
    verifyReadings(maps, desired === null ? "maps" : sourceKind(options), image),
  );
  return finish(report, null, printer);
}

async function finish(
  report: VerifyReport,
  repaired: RepairReport | null,
  printer: Printer,
): Promise<ExitCode> {
  printReport(report, repaired, printer);
  const failed = repaired !== null && repaired.failures.length > 0;
  return isRight(report) && !failed ? ExitCode.ok : ExitCode.finding;
}
