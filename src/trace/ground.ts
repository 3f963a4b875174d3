// SPDX-License-Identifier: Apache-2.0
/** What a trace stands on: the interfaces of this network namespace with their programs and roles, and the settings in force. */
import { InterfaceFlag, Role } from "../abi/enums.gen.js";
import { type Interface, interfaceCodec, type PtlConfig } from "../abi/layout.gen.js";
import { entries } from "../dataplane/view.js";
import type { NetworkInterface } from "../native/interfaces.js";
import type { KernelMaps } from "../native/kernel.js";
import type { NativeLibrary } from "../native/lib.js";
import { type IpAddress, specialUse } from "../net/ip.js";
import { traceError } from "./errors.js";

/** Where a packet comes from: by which kind of interface, or from a process of the node. */
export type Origin = "pod" | "uplink" | "overlay" | "host";

/** An interface with our programs. */
export interface Hooked {
  readonly link: NetworkInterface;
  readonly role: Exclude<Origin, "host">;
  readonly in: boolean;
  readonly out: boolean;
  /** It carries XDP, which sees what comes in first. */
  readonly xdp: boolean;
  /** New flows may take the shortcut by it. */
  readonly shortcut: boolean;
}

export interface Ground {
  readonly interfaces: readonly NetworkInterface[];
  readonly hooked: ReadonlyMap<number, Hooked>;
  readonly config: PtlConfig;
  /** The socket hooks are attached. */
  readonly sockets: boolean;
  /** The node's own addresses: of its interfaces. */
  readonly isLocal: (address: IpAddress) => boolean;
}

const ROLES: Readonly<Record<number, Hooked["role"]>> = {
  [Role.POD]: "pod",
  [Role.UPLINK]: "uplink",
  [Role.OVERLAY]: "overlay",
};
const POD_PROGRAMS = "ptl_pod_";

/**
 * Reads it.
 *
 * @throws AppError E_TRACE_NOT_ATTACHED, NativeError
 */
export async function readGround(library: NativeLibrary, kernel: KernelMaps, pins: string): Promise<Ground> {
  const interfaces = library.interfaces();
  const attachments = (await library.attachments(interfaces.map(({ ifindex }) => ifindex))).filter(
    ({ ours }) => ours,
  );
  const sockets = library.socketLinks(pins);
  const [first] = attachments;
  if (first === undefined)
    throw traceError(
      "E_TRACE_NOT_ATTACHED",
      "no interface of this network namespace carries Portolan's programs",
      "Run it in the node's network namespace, while the agent is at work there (portolan interfaces).",
    );
  const known = await readInterfaces(kernel);
  const xdp = await readXdp(kernel);
  const hooked = new Map<number, Hooked>();
  for (const link of interfaces) {
    const mine = attachments.filter(({ ifindex }) => ifindex === link.ifindex);
    if (mine.length === 0) continue;
    const pod = mine.some(({ name }) => name.startsWith(POD_PROGRAMS));
    const entry = known.get(link.ifindex);
    const role = ROLES[entry?.role ?? 0];
    hooked.set(link.ifindex, {
      link,
      role: pod ? "pod" : role === undefined || role === "pod" ? "uplink" : role,
      in: mine.some(({ direction }) => direction === "in"),
      out: mine.some(({ direction }) => direction === "out"),
      xdp: xdp.has(link.ifindex),
      shortcut: entry !== undefined && (entry.flags & InterfaceFlag.INTERFACE_SHORTCUT) !== 0,
    });
  }
  const local = new Set(
    interfaces.flatMap(({ addresses }) => addresses.map(({ address }) => address.join())),
  );
  return {
    interfaces,
    hooked,
    config: library.programConfig(first.programId),
    sockets: sockets.some(({ cgroupId }) => cgroupId !== 0n),
    isLocal: (address) => local.has(address.bytes.join()) || specialUse(address) === "loopback",
  };
}

async function readInterfaces(kernel: KernelMaps): Promise<ReadonlyMap<number, Interface>> {
  const known = new Map<number, Interface>();
  for await (const { key, value, keyAt, valueAt } of entries(kernel, "interfaces"))
    known.set(key.getUint32(keyAt, true), interfaceCodec.decodeFrom(value, valueAt));
  return known;
}

/** The interfaces that XDP serves. */
async function readXdp(kernel: KernelMaps): Promise<ReadonlySet<number>> {
  const served = new Set<number>();
  for await (const { key, keyAt } of entries(kernel, "xdp_devices")) served.add(key.getUint32(keyAt, true));
  return served;
}

/** The interface by which a packet comes in. */
export interface Entrance {
  readonly hooked: Hooked;
  /** How it was found. */
  readonly why: string;
}

/**
 * The interface by which a packet from an address comes in: the one that was named, or the one that the route back to the
 * sender names. A bridge stands for its ports, of which one is as good as the other.
 *
 * @throws AppError E_TRACE_INTERFACE
 */
export function entranceOf(
  ground: Ground,
  routeTo: (address: IpAddress) => number | null,
  source: IpAddress,
  asked: { readonly from?: Exclude<Origin, "host">; readonly interface?: string },
): Entrance {
  if (asked.interface !== undefined) return named(ground, asked.interface, asked.from);
  const fits = [...ground.hooked.values()].filter(
    ({ role, in: at }) => at && (asked.from === undefined || role === asked.from),
  );
  const back = routeTo(source);
  const direct = fits.find(({ link }) => link.ifindex === back);
  if (direct !== undefined) return { hooked: direct, why: `the route to ${source.text} leads there` };
  const ports = fits.filter(({ link }) => link.master !== 0 && link.master === back);
  const [port] = ports;
  if (port !== undefined) return { hooked: port, why: portText(ground, port, ports.length) };
  const [only, ...others] = fits;
  if (only !== undefined && others.length === 0 && asked.from !== undefined)
    return { hooked: only, why: `the only ${only.role} interface` };
  const names = fits.map(({ link }) => link.name);
  throw traceError(
    "E_TRACE_INTERFACE",
    `no ${asked.from ?? "hooked"} interface is on the way to ${source.text}`,
    names.length === 0
      ? "None has Portolan's programs: portolan interfaces shows those that do."
      : `Say by which it comes in: --interface ${names.slice(0, 8).join(" | ")}.`,
    { source: source.text, interfaces: names },
  );
}

const portText = ({ interfaces }: Ground, { link }: Hooked, count: number): string => {
  const master = interfaces.find(({ ifindex }) => ifindex === link.master)?.name ?? "a bridge";
  return count === 1 ? `the port of ${master}` : `one of ${count} ports of ${master}, which all do the same`;
};

function named(ground: Ground, name: string, from: Origin | undefined): Entrance {
  const link = ground.interfaces.find((each) => each.name === name);
  const names = [...ground.hooked.values()].map((each) => each.link.name).slice(0, 8);
  const hint = `Portolan's programs are on ${names.join(", ")}.`;
  if (link === undefined) throw traceError("E_TRACE_INTERFACE", `there is no interface "${name}" here`, hint);
  const hooked = ground.hooked.get(link.ifindex);
  if (hooked === undefined || !hooked.in)
    throw traceError("E_TRACE_INTERFACE", `${name} does not carry Portolan's programs`, hint);
  if (from !== undefined && hooked.role !== from)
    throw traceError(
      "E_TRACE_INTERFACE",
      `${name} is no ${from} interface: it is one of role ${hooked.role}`,
      "Leave out --from.",
    );
  return { hooked, why: "as asked" };
}

/** The interface whose egress hook a packet meets that the kernel routes out by `ifindex`; null: none of ours. */
export function exitOf(ground: Ground, ifindex: number): Entrance | null {
  const direct = ground.hooked.get(ifindex);
  if (direct?.out) return { hooked: direct, why: "the route leads there" };
  const ports = [...ground.hooked.values()].filter(({ link, out }) => out && link.master === ifindex);
  const [port] = ports;
  return port === undefined ? null : { hooked: port, why: portText(ground, port, ports.length) };
}

/** The interface that IP sees a packet come in by: a bridge, for its ports. */
export function inputInterface({ link }: Hooked): number {
  return link.masterKind === "bridge" ? link.master : link.ifindex;
}
