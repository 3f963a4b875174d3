// SPDX-License-Identifier: Apache-2.0
/** The kernel's interfaces and hooks, as the interface keeper wants to see them. */
import { Role } from "../abi/enums.gen.js";
import type { AttachOutcome, AttachRequest, Hooks, LinkSnapshot } from "../dataplane/attach.js";
import type { OtherPrograms } from "../dataplane/flow-marks.js";
import type { Link, LinkAddress } from "../dataplane/interfaces.js";
import type { InterfaceAddress, NetworkInterface } from "../native/interfaces.js";
import type { NativeLibrary } from "../native/lib.js";
import type { LoadedObject } from "../native/object.js";
import { type IpAddress, ipFromBytes, specialUse } from "../net/ip.js";
import { defaultRouteInterfaces, sysctl } from "../util/proc.js";

/** Of rp_filter; the larger of "all" and the interface's own counts. */
const STRICT = 1;
const RT_SCOPE_LINK = 253;
const IFA_F_DADFAILED = 0x08;
const IFA_F_DEPRECATED = 0x20;
const IFA_F_TENTATIVE = 0x40;

/** Whether packets may leave with this address: not one that is being tried, has lost, or is on its way out. */
const isUsable = ({ scope, flags }: InterfaceAddress): boolean =>
  scope < RT_SCOPE_LINK && (flags & (IFA_F_DADFAILED | IFA_F_DEPRECATED | IFA_F_TENTATIVE)) === 0;

function toLink(link: NetworkInterface): Link {
  const { ifindex, name, kind, master, arpType, peerNamespace, mtu, qdisc } = link;
  const peerElsewhere = peerNamespace !== null;
  return { ifindex, name, kind, master, hardwareType: arpType, peerElsewhere, mtu, qdisc };
}

function addressesOf({ ifindex, addresses }: NetworkInterface): readonly LinkAddress[] {
  return addresses
    .filter(isUsable)
    .map(({ address, prefix }) => ({ ifindex, address: ipFromBytes(address), prefixLength: prefix }));
}

/** Addresses that this host answers to: those that it should not use for itself any more, too (6.1). */
function localAddressesOf({ addresses }: NetworkInterface): readonly IpAddress[] {
  return addresses
    .filter(({ flags }) => (flags & (IFA_F_DADFAILED | IFA_F_TENTATIVE)) === 0)
    .map(({ address }) => ipFromBytes(address))
    .filter((address) => specialUse(address) === null);
}

/** Links, addresses and default routes of this network namespace, as they are now. */
export function readLinks(library: NativeLibrary): LinkSnapshot {
  const interfaces = library.interfaces();
  const names = defaultRouteInterfaces();
  return {
    links: interfaces.map(toLink),
    addresses: interfaces.flatMap(addressesOf),
    defaultRoutes: new Set(interfaces.filter(({ name }) => names.has(name)).map(({ ifindex }) => ifindex)),
    localAddresses: interfaces.flatMap(localAddressesOf),
  };
}

export const DIRECTIONS = ["in", "out"] as const;

/** The program that interfaces of a role carry: pods have others than uplinks and overlays. */
export function programName(role: Role, direction: (typeof DIRECTIONS)[number]): string {
  return `ptl_${role === Role.POD ? "pod" : "net"}_${direction}`;
}

/** The hooks of this network namespace. Programs are those of `object`, links are pinned below `pins`. */
export class NativeHooks implements Hooks {
  readonly #library: NativeLibrary;
  readonly #object: LoadedObject;
  readonly #pins: string;

  constructor(library: NativeLibrary, object: LoadedObject, pins: string) {
    this.#library = library;
    this.#object = object;
    this.#pins = pins;
  }

  readLinks(): LinkSnapshot {
    return readLinks(this.#library);
  }

  async attach(requests: readonly AttachRequest[]): Promise<readonly AttachOutcome[]> {
    const results = await this.#object.attach(requests);
    return results.map((result): AttachOutcome => {
      if (result.ok) return { mode: result.mode, error: null };
      const { code, message, hint } = result.error;
      return { error: hint === null ? message : `${message}. ${hint}`, gone: code === "E_NATIVE_NO_DEVICE" };
    });
  }

  async present(
    interfaces: readonly Pick<AttachRequest, "ifindex" | "role">[],
  ): Promise<ReadonlySet<number>> {
    const ids = new Map(this.#object.programs().map(({ name, id }) => [name, id]));
    const there = new Set(
      (await this.#library.attachments(interfaces.map(({ ifindex }) => ifindex))).map(
        ({ ifindex, direction, programId }) => `${ifindex} ${direction} ${programId}`,
      ),
    );
    const carries = ({ ifindex, role }: (typeof interfaces)[number]): boolean =>
      DIRECTIONS.every((direction) =>
        there.has(`${ifindex} ${direction} ${ids.get(programName(role, direction))}`),
      );
    return new Set(interfaces.filter(carries).map(({ ifindex }) => ifindex));
  }

  async others(ifindexes: readonly number[]): Promise<ReadonlyMap<number, string>> {
    const found = (await this.#library.attachments(ifindexes)).filter(({ ours }) => !ours);
    return new Map(
      found.map(({ ifindex, direction, mode, name }) => [ifindex, `${name} (${direction}, ${mode})`]),
    );
  }

  isStrict(name: string): boolean {
    const values = ["all", name].map((each) => Number(sysctl(`net/ipv4/conf/${each}/rp_filter`) ?? 0));
    return Math.max(...values) === STRICT;
  }

  async detach(ifindexes: readonly number[]): Promise<void> {
    await this.#library.detach(this.#pins, ifindexes);
  }
}

/** Which programs of ours are attached here that are none of `object`: of an agent before this one, or beside it. */
export async function otherPrograms(
  library: Pick<NativeLibrary, "interfaces" | "attachments" | "xdpStates">,
  object: Pick<LoadedObject, "programs">,
): Promise<OtherPrograms> {
  const own = object.programs();
  const [ids, tags] = [new Set(own.map(({ id }) => id)), new Set(own.map(({ tag }) => tag))];
  const indexes = library.interfaces().map(({ ifindex }) => ifindex);
  const [tc, xdp] = await Promise.all([library.attachments(indexes), library.xdpStates(indexes)]);
  const others = [...tc, ...xdp].filter(({ ours, programId }) => ours && !ids.has(programId));
  if (others.length === 0) return "none";
  return others.every(({ tag }) => tags.has(tag)) ? "alike" : "different";
}
