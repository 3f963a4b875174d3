// SPDX-License-Identifier: Apache-2.0
/** The programs and maps, loaded or found pinned, as this node and these settings want them. */
import { refuseOtherLayouts } from "../dataplane/pins.js";
import type { NodeInfo } from "../model/types.js";
import type { NativeLibrary } from "../native/lib.js";
import type { LoadedObject } from "../native/object.js";
import type { Logger } from "../util/log.js";
import type { AgentConfig } from "./agent-config.js";
import { requireBpffs } from "./bpffs.js";
import { localPortRange } from "./host-facts.js";
import { DEFAULT_TIMEOUTS, kernelConfig } from "./kernel-config.js";
import { kernelOptions } from "./kernel-options.js";
import { kernelAbilities } from "./native-sockets.js";
import { shortcutFlowsLeft } from "./shortcut-flows.js";
import { type PortRange, rangeText, takenPorts, usablePorts } from "./snat-ports.js";

/** The ranges that are free here; what is not is said. */
function snatRanges(config: AgentConfig, log: Logger): readonly PortRange[] {
  const { ranges, conflicts } = usablePorts(config.snatRanges, takenPorts(localPortRange()));
  for (const { range, taken: other, by } of conflicts) {
    const fields = { range: rangeText(range), by, taken: rangeText(other), left: ranges.map(rangeText) };
    log.warn({ code: "snat_ports_overlap", ...fields }, "source port range overlaps");
  }
  return ranges;
}

/**
 * @param node null: it is not known. Only detector NodeCIDR needs it.
 * @throws AppError when there is no bpf file system, other layouts or sizes are pinned, or the kernel refuses the programs
 */
export async function openObject(
  library: NativeLibrary,
  pins: string,
  config: AgentConfig,
  node: NodeInfo | null,
  log: Logger,
): Promise<LoadedObject> {
  const abilities = kernelAbilities(library);
  requireBpffs(config.bpfRoot, log);
  refuseOtherLayouts(
    config.bpfRoot,
    "An upgrade between these layouts is not possible yet: portolan cleanup first.",
  );
  const shortcut = config.forwarding !== "stack" || (await shortcutFlowsLeft(library, config.bpfRoot, pins));
  const options = kernelOptions(config, node, abilities, shortcut);
  return await library.open({
    pins,
    config: kernelConfig(snatRanges(config, log), DEFAULT_TIMEOUTS, options),
    maxEntries: config.maxEntries,
    sockets: config.socketLb !== "off" && config.cgroupRoot !== null && abilities.socketHooks,
    xdp: config.xdp !== "off",
  });
}
