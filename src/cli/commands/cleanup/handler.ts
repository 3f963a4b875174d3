// SPDX-License-Identifier: Apache-2.0
import { existsSync, rmdirSync } from "node:fs";
import type { RemovedLeftovers } from "../../../daemon/takeover-cleanup.js";
import { bpfRoot, layoutDirectory, layoutsAt } from "../../../dataplane/pins.js";
import { NativeLibrary } from "../../../native/lib.js";
import { protocolNumber } from "../../../net/port.js";
import { AppError, errorMessage, UserError } from "../../../util/errors.js";
import { silentLogger } from "../../../util/log.js";
import type { Handler } from "../../command.js";
import { ExitCode } from "../../exit-codes.js";
import type { Printer } from "../../output.js";

export interface CleanupOptions {
  /** What kube-proxy has left, and nothing of ours. */
  readonly kubeProxy?: boolean;
  readonly dryRun?: boolean;
}

interface RemovedPins {
  readonly directory: string;
  readonly count: number;
}

/** Removes an empty directory; one that is not there, or holds what is not ours, stays as it is. */
function removeIfEmpty(path: string): void {
  try {
    rmdirSync(path);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code !== "ENOENT" && code !== "ENOTEMPTY" && code !== "EBUSY") throw error;
  }
}

/** `portolan cleanup`: every layout below the root, since an older version's programs may still be attached. */
export const cleanup: Handler<CleanupOptions> = async (options, printer) => {
  const root = bpfRoot(options.bpfRoot);
  if (process.getuid?.() !== 0) {
    throw new AppError("E_PERMISSION", "cleanup detaches programs and removes pins, which needs root", {
      hint: "Run it with sudo.",
    });
  }
  if (options.kubeProxy === true) return await cleanKubeProxy(root, options.dryRun === true, printer);
  if (options.dryRun === true)
    throw new UserError("--dry-run goes with --kube-proxy", {
      hint: "What cleanup itself would remove: `portolan interfaces`, and the pins below --bpf-root.",
    });
  const returned = await returnToKubeProxy(root);
  const removed = removePins(root);
  const { rules, failures } = await removeRules();
  const { removeProblems } = await import("../../../daemon/problem-file.js");
  await removeProblems(root);
  if (printer.structured) printer.json({ root, removed, firewallTables: rules, returnedFlows: returned });
  else {
    if (removed.length === 0) printer.line(`nothing below ${root}`);
    for (const { directory, count } of removed) printer.line(`${directory}: ${count} pins and hooks removed`);
    if (returned > 0) printer.line(`${returned} flows handed over to kube-proxy's rules`);
    if (rules > 0) printer.line(`firewall: our rules removed (filter tables: ${rules})`);
  }
  for (const reason of failures) process.stderr.write(`portolan: firewall rules may be left: ${reason}\n`);
  return failures.length > 0 ? ExitCode.failure : ExitCode.ok;
};

/**
 * Where kube-proxy's rules are back, the flows that we translate go on by the kernel's conntrack. How many; what cannot be handed
 * over is said, and no reason to stay.
 */
async function returnToKubeProxy(root: string): Promise<number> {
  const pins = layoutDirectory(root);
  if (!existsSync(`${pins}/nat4`)) return 0;
  const { familiesOfKubeProxy } = await import("../../../daemon/takeover-cleanup.js");
  const families = await familiesOfKubeProxy();
  if (families.length === 0) return 0;
  const { returnFlows } = await import("../../../daemon/takeover-return.js");
  const library = new NativeLibrary();
  try {
    const maps = library.openPins(pins, { writable: true });
    try {
      const { handedOver, failed, errno } = await returnFlows({ maps, tracker: library }, families);
      if (failed > 0)
        process.stderr.write(`portolan: ${failed} flows could not be handed over (errno ${errno})\n`);
      return handedOver;
    } finally {
      await maps.close();
    }
  } catch (error) {
    process.stderr.write(`portolan: flows could not be handed over: ${errorMessage(error)}\n`);
    return 0;
  }
}

function removePins(root: string): readonly RemovedPins[] {
  const layouts = layoutsAt(root).map((layout) => layoutDirectory(root, layout));
  const removed: RemovedPins[] = [];
  if (layouts.length > 0) {
    const library = new NativeLibrary();
    for (const directory of layouts) removed.push({ directory, count: library.cleanup(directory) });
  }
  removeIfEmpty(root);
  return removed;
}

/** Our rules in the host's firewall. Where there is no iptables, there are none of ours. */
async function removeRules(): Promise<{ readonly rules: number; readonly failures: readonly string[] }> {
  const { ForwardRules } = await import("../../../daemon/forward-rules.js");
  const { changed, failures } = await new ForwardRules({ log: silentLogger }).remove();
  const real = failures.filter(({ code }) => code !== "tool_missing").map(({ message }) => message);
  const { removeNatTables } = await import("../../../daemon/takeover-cleanup.js");
  const tables = await removeNatTables();
  if (tables === null) real.push("nft: cannot delete the table portolan");
  return { rules: changed + (tables ?? 0), failures: real };
}

async function cleanKubeProxy(root: string, dryRun: boolean, printer: Printer): Promise<ExitCode> {
  const { hostLeftoverTools, removeLeftovers } = await import("../../../daemon/takeover-cleanup.js");
  // Without an agent nothing takes kube-proxy's place, and nothing of ours is left behind.
  const takenOver = layoutsAt(root).length > 0;
  const tools = {
    ...hostLeftoverTools,
    hasTranslatedFlows: async () => takenOver && (await hasTranslatedFlows()),
  };
  const removed = await removeLeftovers(tools, dryRun);
  if (printer.structured) printer.json({ dryRun, ...removed });
  else for (const line of leftoverLines(removed, dryRun)) printer.line(line);
  for (const reason of removed.failures)
    process.stderr.write(`portolan: something of kube-proxy's may be left: ${reason}\n`);
  return removed.failures.length > 0 ? ExitCode.failure : ExitCode.ok;
}

/** TCP or UDP flows with a translated destination. What cannot be found out is taken to be so. */
async function hasTranslatedFlows(): Promise<boolean> {
  const { TrackedStatus } = await import("../../../native/conntrack.js");
  const library = new NativeLibrary();
  try {
    for (const protocol of ["TCP", "UDP"] as const)
      if ((await library.trackedFlows(protocolNumber(protocol), TrackedStatus.DST_NAT, 1)).total > 0)
        return true;
    return false;
  } catch {
    return true;
  }
}

function leftoverLines(removed: RemovedLeftovers, dryRun: boolean): readonly string[] {
  const { iptables, nftables, natKept, virtualServers, sets, interfaces } = removed;
  const did = dryRun ? "would be removed" : "removed";
  const lines = iptables.flatMap(({ backend, family, table, chains, jumps, kept }) => [
    `iptables (${backend}, IPv${family}) table ${table}: ${chains} chains and ${jumps} rules that lead there ${did}`,
    ...kept.map((chain) => `  ${chain} stays: somebody else's rules use it`),
  ]);
  lines.push(...nftables.map((table) => `nftables table ${table} ${did}`));
  lines.push(...natKept.map((table) => `nftables table ${table}: keeps translating the flows that are left`));
  if (virtualServers > 0) lines.push(`IPVS: ${virtualServers} virtual servers ${did}`);
  if (sets.length > 0) lines.push(`ipset: ${sets.length} sets ${did}`);
  lines.push(...interfaces.map((name) => `interface ${name} ${did}`));
  return lines.length === 0 ? ["nothing of kube-proxy's is here"] : lines;
}
