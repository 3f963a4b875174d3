// SPDX-License-Identifier: Apache-2.0
/** Is the XDP program where the map `xdp_devices` says, the right one, and nowhere else? Pure. */
import type { XdpState } from "../../native/xdp.js";
import { XDP_PROGRAM } from "../xdp-hooks.js";
import { type Finding, failure } from "./finding.js";
import type { ProgramIdentity } from "./programs.js";

export interface XdpSeen {
  /** Hardware addresses as hexadecimal text, by ifindex. */
  readonly devices: ReadonlyMap<number, string>;
  /** Of every interface of this network namespace. */
  readonly states: readonly XdpState[];
  readonly names: ReadonlyMap<number, string>;
  readonly identity: ProgramIdentity;
}

const FIX =
  "The agent puts it back when it audits, or starts; without --xdp it takes off what is left. tc serves the uplink meanwhile.";

export function checkXdp({ devices, states, names, identity }: XdpSeen): Finding[] {
  const byIndex = new Map(states.map((state) => [state.ifindex, state]));
  const findings: Finding[] = [];
  for (const [ifindex, address] of devices) {
    const state = byIndex.get(ifindex);
    const at = {
      check: "programs",
      where: names.get(ifindex) ?? `interface ${ifindex}`,
      entry: "XDP",
      wanted: { program: XDP_PROGRAM },
      fix: FIX,
    } as const;
    if (state === undefined || state.programId === 0) {
      findings.push(failure({ ...at, kind: "missing" }));
    } else if (!state.ours) {
      findings.push(failure({ ...at, kind: "different", found: { program: state.name } }));
    } else if (identity.ids !== null && !identity.ids.has(state.programId)) {
      const found = { program: state.name, id: String(state.programId) };
      const wanted = { program: XDP_PROGRAM, id: "one that the agent has loaded" };
      findings.push(failure({ ...at, kind: "other build", found, wanted }));
    } else if (Buffer.from(state.address).toString("hex") !== address) {
      const found = { address };
      const wanted = { address: Buffer.from(state.address).toString("hex") };
      findings.push(failure({ ...at, kind: "different", found, wanted }));
    }
  }
  for (const { ifindex, ours, name } of states) {
    if (!ours || devices.has(ifindex)) continue;
    const where = names.get(ifindex) ?? `interface ${ifindex}`;
    findings.push(
      failure({ check: "programs", kind: "extra", where, entry: "XDP", found: { program: name }, fix: FIX }),
    );
  }
  return findings;
}
