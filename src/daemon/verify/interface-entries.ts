// SPDX-License-Identifier: Apache-2.0
/** The map `interfaces` against what it should hold, entry by entry. Pure. */
import { InterfaceFlag, Role } from "../../abi/enums.gen.js";
import { interfaceCodec } from "../../abi/layout.gen.js";
import { NODE_KEY, type ServedInterface } from "../../dataplane/attach.js";
import type { InterfaceRole } from "../../dataplane/interfaces.js";
import { ipFromBytes } from "../../net/ip.js";
import { type Finding, failure } from "./finding.js";

const ROLE_NAMES: ReadonlyMap<number, string> = new Map(
  Object.entries(Role).map(([name, value]) => [value, name.toLowerCase()]),
);

function addressText(bytes: Uint8Array): string {
  return bytes.some((byte) => byte !== 0) ? ipFromBytes(bytes).text : "none";
}

function fieldsOf(value: Uint8Array): Record<string, string> {
  const { role, mtu, masquerade4, masquerade6, flags } = interfaceCodec.decode(value);
  return {
    role: ROLE_NAMES.get(role) ?? String(role),
    "masquerade IPv4": addressText(masquerade4),
    "masquerade IPv6": addressText(masquerade6),
    "local pods": flags & InterfaceFlag.INTERFACE_LOCAL_PODS ? "yes" : "no",
    mtu: String(mtu),
    peer: flags & InterfaceFlag.INTERFACE_PEER ? "yes" : "no",
    forwarding: flags & InterfaceFlag.INTERFACE_SHORTCUT ? "shortcut" : "stack",
  };
}

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");

/** @param wanted null: only what the map says of itself is looked at */
export function checkInterfaceEntries(
  found: ReadonlyMap<number, Uint8Array>,
  wanted: ReadonlyMap<number, Uint8Array> | null,
  names: ReadonlyMap<number, string>,
): Finding[] {
  const nameOf = (ifindex: number): string =>
    ifindex === NODE_KEY ? "(this node)" : (names.get(ifindex) ?? `interface ${ifindex}`);
  const findings: Finding[] = [];
  const indexes = [...new Set([...found.keys(), ...(wanted ?? found).keys()])].sort((a, b) => a - b);
  for (const ifindex of indexes) {
    const at = { check: "interfaces", where: "interfaces", entry: nameOf(ifindex) } as const;
    const before = found.get(ifindex);
    const after = wanted === null ? before : wanted.get(ifindex);
    if (before === undefined && after !== undefined)
      findings.push(failure({ ...at, kind: "missing", wanted: fieldsOf(after) }));
    else if (before !== undefined && after === undefined)
      findings.push(failure({ ...at, kind: "extra", found: fieldsOf(before) }));
    else if (before !== undefined && after !== undefined && hex(before) !== hex(after))
      findings.push(failure({ ...at, kind: "different", ...differing(before, after) }));
    else if (before !== undefined && ifindex !== NODE_KEY && !names.has(ifindex))
      findings.push(failure({ ...at, kind: "leaked", found: fieldsOf(before) }));
  }
  return findings;
}

function differing(before: Uint8Array, after: Uint8Array): Pick<Finding, "found" | "wanted"> {
  const [a, b] = [fieldsOf(before), fieldsOf(after)];
  const names = Object.keys(a).filter((name) => a[name] !== b[name]);
  // Bytes that nobody reads.
  if (names.length === 0) return { found: { bytes: hex(before) }, wanted: { bytes: hex(after) } };
  const some = (fields: Readonly<Record<string, string>>): Record<string, string> =>
    Object.fromEntries(names.map((name) => [name, fields[name] ?? ""]));
  return { found: some(a), wanted: some(b) };
}

const CARRIERS: readonly InterfaceRole[] = ["pod", "uplink", "overlay"];

/** Which interfaces should carry programs, by the map alone: an agent wrote an entry before it attached them. */
export function expectedByMap(
  entries: ReadonlyMap<number, Uint8Array>,
  names: ReadonlyMap<number, string>,
): ServedInterface[] {
  return Array.from(entries).flatMap(([ifindex, value]) => {
    const name = names.get(ifindex);
    const role = ROLE_NAMES.get(interfaceCodec.decode(value).role) as InterfaceRole;
    return name === undefined || !CARRIERS.includes(role) ? [] : [{ ifindex, name, role }];
  });
}
