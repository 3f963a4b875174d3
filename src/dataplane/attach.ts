// SPDX-License-Identifier: Apache-2.0
/**
 * Keeps the programs on the interfaces that should carry them, and the `interfaces` map in step. Level-triggered: each
 * call looks at everything there is and does what is missing, whatever happened before.
 */
import { viewOf } from "../abi/codec.js";
import { InterfaceFlag, Role } from "../abi/enums.gen.js";
import { interfaceCodec } from "../abi/layout.gen.js";
import { type HookMode, packIndexes } from "../native/hooks.js";
import type { KernelMaps, KernelReads, MapWrite } from "../native/kernel.js";
import { type IpAddress, ipFromBytes } from "../net/ip.js";
import { AppError } from "../util/errors.js";
import type { Logger } from "../util/log.js";
import {
  type InterfaceOptions,
  type InterfacePlan,
  type InterfaceRole,
  type Interfaces,
  type Link,
  type LinkAddress,
  type NodeAddresses,
  planInterfaces,
} from "./interfaces.js";
import { closedToShortcut } from "./shortcut.js";
import type { Uplink, XdpKeeper } from "./xdp.js";

/** What the kernel says about this network namespace. */
export interface LinkSnapshot {
  readonly links: readonly Link[];
  readonly addresses: readonly LinkAddress[];
  /** ifindexes which a default route uses. */
  readonly defaultRoutes: ReadonlySet<number>;
  /** Every address that packets to this host may have, beside loopback and link-local ones; also those not to be used any more. */
  readonly localAddresses: readonly IpAddress[];
}

export interface AttachRequest {
  readonly ifindex: number;
  /** Pods have other programs than uplinks and overlays. */
  readonly role: Role;
  readonly mode: HookMode;
}

/** How it went for one interface. */
export type AttachOutcome =
  | { readonly mode: "tcx" | "clsact"; readonly error: null }
  | { readonly error: string; readonly gone: boolean };

/** What the keeper needs of the kernel. */
export interface Hooks {
  readLinks(): LinkSnapshot;
  /** Puts both programs on each interface; replaces them without a gap where they are. One outcome a request. */
  attach(requests: readonly AttachRequest[]): Promise<readonly AttachOutcome[]>;
  /** Those of these interfaces that carry both programs of their role now: the very ones that `attach` puts there. */
  present(interfaces: readonly Pick<AttachRequest, "ifindex" | "role">[]): Promise<ReadonlySet<number>>;
  /** What others have at the hooks of these interfaces, in words; those that have nothing are left out. */
  others(ifindexes: readonly number[]): Promise<ReadonlyMap<number, string>>;
  /** Whether the kernel drops what comes in by an interface and does not lead back there (strict rp_filter). */
  isStrict(name: string): boolean;
  /** Takes our programs off. Nothing there, or no such interface, is no error. */
  detach(ifindexes: readonly number[]): Promise<void>;
}

export interface KeeperDependencies {
  readonly hooks: Hooks;
  readonly maps: KernelMaps;
  readonly log: Logger;
  /** Told of everything that a sync has seen, before it does anything. */
  readonly onLinks?: (links: LinkSnapshot) => void;
  /** Told of what an audit has found that somebody else did, once it is repaired. */
  readonly onFound?: (found: KeeperFindings) => void;
  /** Told of the uplinks at the end of each sync; left out: there is no XDP. */
  readonly xdp?: Pick<XdpKeeper, "sync">;
}

/** What somebody else has done. */
export interface KeeperFindings {
  /** Entries of `interfaces` that were not as they had been written. */
  readonly entries: number;
  /** Interfaces on which a program was missing, or another one in its place. */
  readonly programs: number;
}

/** How the shortcut may be taken. */
export interface ShortcutRule {
  /** Only where nothing is missed (auto). */
  readonly cautious: boolean;
}

interface Attached {
  readonly name: string;
  readonly role: InterfaceRole;
  readonly mode: "tcx" | "clsact";
}

/** An interface that should carry the programs of its role. */
export type ServedInterface = Pick<InterfacePlan, "ifindex" | "name" | "role">;

/** Roles as the kernel has them. */
export const ROLES: Readonly<Record<InterfaceRole, Role>> = {
  pod: Role.POD,
  uplink: Role.UPLINK,
  overlay: Role.OVERLAY,
  bridge: Role.BRIDGE,
};

function encodeEntry(
  role: Role,
  { masquerade4, masquerade6, mtu = 0 }: NodeAddresses & { readonly mtu?: number },
  flags: number,
): Uint8Array {
  return interfaceCodec.encode({
    role,
    mtu,
    masquerade4: masquerade4?.bytes ?? new Uint8Array(4),
    masquerade6: masquerade6?.bytes ?? new Uint8Array(16),
    flags,
  });
}

function encodeInterface(plan: InterfacePlan, shortcut: boolean): Uint8Array {
  const flags =
    (plan.localPods ? InterfaceFlag.INTERFACE_LOCAL_PODS : 0) |
    (plan.peer ? InterfaceFlag.INTERFACE_PEER : 0) |
    (shortcut ? InterfaceFlag.INTERFACE_SHORTCUT : 0);
  return encodeEntry(ROLES[plan.role], plan, flags);
}

/** The key of `interfaces` that stands for the node itself: no interface has this index. */
export const NODE_KEY = 0;

/**
 * What `interfaces` must hold, by key.
 *
 * @param open whether new flows may take the shortcut by an interface
 */
export function interfaceEntries(
  { plans, node }: Pick<Interfaces, "plans" | "node">,
  open: (ifindex: number) => boolean = () => false,
): Map<number, Uint8Array> {
  const entries = new Map(plans.map((plan) => [plan.ifindex, encodeInterface(plan, open(plan.ifindex))]));
  if (node.masquerade4 !== null || node.masquerade6 !== null)
    entries.set(NODE_KEY, encodeEntry(Role.NODE, node, 0));
  return entries;
}

/** Whether an entry lets new flows take the shortcut. */
export function isOpenToShortcut(entry: Uint8Array | undefined): boolean {
  return entry !== undefined && (interfaceCodec.decode(entry).flags & InterfaceFlag.INTERFACE_SHORTCUT) !== 0;
}

/** Writes entries of `interfaces`. */
export function interfaceUpdates(entries: readonly (readonly [number, Uint8Array])[]): MapWrite {
  const values = new Uint8Array(entries.length * interfaceCodec.size);
  entries.forEach(([, value], i) => {
    values.set(value, i * interfaceCodec.size);
  });
  const keys = packIndexes(entries.map(([ifindex]) => ifindex));
  return { map: "interfaces", kind: "update", count: entries.length, keys, values };
}

/** Deletes entries of `interfaces`. */
export function interfaceDeletes(ifindexes: readonly number[]): MapWrite {
  const keys = packIndexes(ifindexes);
  return { map: "interfaces", kind: "delete", count: ifindexes.length, keys, values: NOTHING };
}

const equal = (a: Uint8Array, b: Uint8Array | undefined): boolean =>
  b !== undefined && a.length === b.length && a.every((byte, i) => byte === b[i]);

const NONE: ReadonlySet<number> = new Set();

/** Entries that the two do not have alike. */
function differing(a: ReadonlyMap<number, Uint8Array>, b: ReadonlyMap<number, Uint8Array>): number {
  const indexes = new Set([...a.keys(), ...b.keys()]);
  return [...indexes].filter((ifindex) => !equal(a.get(ifindex) ?? NOTHING, b.get(ifindex))).length;
}

const NOTHING = new Uint8Array();

/** The node's own addresses as the map has them. */
function nodeAddressesIn(entries: ReadonlyMap<number, Uint8Array>): readonly IpAddress[] {
  const value = entries.get(NODE_KEY);
  if (value === undefined) return [];
  const { masquerade4, masquerade6 } = interfaceCodec.decode(value);
  return [masquerade4, masquerade6].filter((bytes) => bytes.some((byte) => byte !== 0)).map(ipFromBytes);
}

/** What `interfaces` holds, by key. */
export async function readInterfaceEntries(maps: KernelReads): Promise<Map<number, Uint8Array>> {
  const { count, keys, values } = await maps.dump("interfaces");
  const view = viewOf(keys);
  const { size } = interfaceCodec;
  const entries = new Map<number, Uint8Array>();
  for (let i = 0; i < count; i++) {
    entries.set(view.getUint32(4 * i, true), values.slice(i * size, (i + 1) * size));
  }
  return entries;
}

export class InterfaceKeeper {
  readonly #mode: HookMode;
  readonly #options: InterfaceOptions;
  readonly #hooks: Hooks;
  readonly #maps: KernelMaps;
  readonly #log: Logger;
  readonly #onLinks: (links: LinkSnapshot) => void;
  readonly #onFound: (found: KeeperFindings) => void;
  readonly #xdp: Pick<XdpKeeper, "sync"> | undefined;
  readonly #attached = new Map<number, Attached>();
  /** Null: every new flow goes through the stack. */
  #shortcut: ShortcutRule | null = null;
  #closed: ReadonlyMap<number, string> = new Map();
  /** By which the cluster knows this node; null until somebody has said. */
  #nodeAddresses: readonly IpAddress[] | null = null;
  #expected: readonly ServedInterface[] = [];
  /** What could not be attached to in the last sync. */
  #failed: ReadonlySet<string> = new Set();
  /** What `interfaces` holds, by ifindex; null until it was read. */
  #entries: Map<number, Uint8Array> | null = null;
  /** What was said about an interface that could not be served, so that it is said once. */
  readonly #complaints = new Map<number, string>();

  constructor(mode: HookMode, options: InterfaceOptions, dependencies: KeeperDependencies) {
    const { hooks, maps, log, onLinks, onFound, xdp } = dependencies;
    this.#mode = mode;
    this.#options = options;
    this.#hooks = hooks;
    this.#maps = maps;
    this.#log = log;
    this.#onLinks = onLinks ?? (() => {});
    this.#onFound = onFound ?? (() => {});
    this.#xdp = xdp;
  }

  /**
   * The Node object's addresses, in order (13.1): the next sync takes those that are here for the node's own. Until they are
   * known, what an agent before this one wrote stays as long as it is here.
   *
   * @returns whether they are others than before
   */
  setNodeAddresses(addresses: readonly IpAddress[]): boolean {
    const before = this.#nodeAddresses;
    this.#nodeAddresses = addresses;
    const same = before?.length === addresses.length;
    return !same || addresses.some(({ text }, i) => text !== before[i]?.text);
  }

  /** Whether new flows may take the shortcut: the next sync says so in `interfaces`. */
  setShortcut(rule: ShortcutRule | null): void {
    this.#shortcut = rule;
  }

  /** Interfaces that are closed to the shortcut all the same, by ifindex, and why. */
  get closed(): ReadonlyMap<number, string> {
    return this.#closed;
  }

  /** The names of those that should carry the programs and could not be given them. */
  get failedNames(): readonly string[] {
    return [...this.#failed].sort();
  }

  /** What it has written into `interfaces`; null: it does not know. */
  get entries(): ReadonlyMap<number, Uint8Array> | null {
    return this.#entries;
  }

  /** Those that should carry them, as the last look had it. */
  get expected(): readonly ServedInterface[] {
    return this.#expected;
  }

  /** The names of those that carry them. */
  get attachedNames(): readonly string[] {
    return [...this.#attached.values()].map(({ name }) => name).sort();
  }

  /**
   * Attaches what is new, detaches what has gone, and writes what has changed in `interfaces`: an entry is there before
   * the programs of its interface run, and as long as they do. One interface that fails stops no other.
   *
   * @param audit also put back what somebody else has taken off, and read `interfaces` anew
   */
  async sync(audit = false): Promise<void> {
    const seen = this.#hooks.readLinks();
    this.#onLinks(seen);
    const { links, addresses, defaultRoutes } = seen;
    let foreign = 0;
    if (audit || this.#entries === null) {
      const found = await readInterfaceEntries(this.#maps);
      foreign = this.#entries === null ? 0 : differing(this.#entries, found);
      if (foreign > 0)
        this.#log.warn(
          { map: "interfaces", entries: foreign },
          "the interfaces map was changed by someone else",
        );
      this.#entries = found;
    }
    const preferred = this.#nodeAddresses ?? nodeAddressesIn(this.#entries);
    const { plans, refused, node } = planInterfaces(
      links,
      addresses,
      defaultRoutes,
      this.#options,
      preferred,
    );
    for (const { ifindex, name, reason } of refused)
      this.#complain(ifindex, name, "interface_refused", reason);
    const wanted = new Map(plans.map((plan) => [plan.ifindex, plan]));
    const open = await this.#open(plans, links);
    const values = interfaceEntries({ plans, node }, open);
    await this.#writeEntries(values, this.#entries, audit);
    const served = plans.filter((plan) => plan.attach);
    this.#expected = served.map(({ ifindex, name, role }) => ({ ifindex, name, role }));
    const removed = audit ? await this.#findRemoved(served) : NONE;
    const programs = await this.#attach(
      served.filter((plan) => !this.#serves(plan) || removed.has(plan.ifindex)),
      removed,
    );
    this.#failed = new Set(
      served
        .filter(({ ifindex }) => this.#complaints.has(ifindex) && !this.#attached.has(ifindex))
        .map(({ name }) => name),
    );
    // Entries also name interfaces of an agent before this one, whose programs may still be there.
    const known = [...new Set([...this.#entries.keys(), ...this.#attached.keys()])];
    const gone = known.filter((ifindex) => !wanted.has(ifindex));
    await this.#detach(gone.filter((ifindex) => ifindex !== NODE_KEY));
    await this.#deleteEntries(
      gone.filter((ifindex) => !values.has(ifindex)),
      this.#entries,
    );
    const present = new Set(links.map((link) => link.ifindex));
    for (const ifindex of [...this.#complaints.keys()]) {
      if (!present.has(ifindex)) this.#complaints.delete(ifindex);
    }
    const putBack = (await this.#xdp?.sync(this.#uplinks(links), audit)) ?? 0;
    if (foreign > 0 || programs + putBack > 0)
      this.#onFound({ entries: foreign, programs: programs + putBack });
  }

  /** Uplinks that carry the programs: without those there is nobody to leave a packet to. */
  #uplinks(links: readonly Link[]): readonly Uplink[] {
    return links
      .filter(({ ifindex }) => this.#attached.get(ifindex)?.role === "uplink")
      .map(({ ifindex, name, kind }) => ({ ifindex, name, kind }));
  }

  /** By which interfaces new flows may take the shortcut. */
  async #open(
    plans: readonly InterfacePlan[],
    links: readonly Link[],
  ): Promise<(ifindex: number) => boolean> {
    const rule = this.#shortcut;
    this.#closed = new Map();
    if (rule === null) return () => false;
    const leadOut = plans.filter(({ role }) => role === "uplink" || role === "overlay");
    const strict = rule.cautious ? leadOut.filter(({ name }) => this.#hooks.isStrict(name)) : [];
    const closed = closedToShortcut(plans, links, {
      others: await this.#hooks.others(plans.map(({ ifindex }) => ifindex)),
      strict: new Set(strict.map(({ ifindex }) => ifindex)),
    });
    this.#closed = closed;
    return (ifindex) => !closed.has(ifindex);
  }

  /** `audit`: the node's own entry is written in any case. A map that takes no writes shall show before one is needed. */
  async #writeEntries(
    wanted: ReadonlyMap<number, Uint8Array>,
    entries: Map<number, Uint8Array>,
    audit: boolean,
  ): Promise<void> {
    const changed = Array.from(wanted).filter(
      ([ifindex, value]) => (audit && ifindex === NODE_KEY) || !equal(value, entries.get(ifindex)),
    );
    if (changed.length === 0) return;
    await this.#apply(interfaceUpdates(changed));
    for (const [ifindex, value] of changed) entries.set(ifindex, value);
  }

  async #deleteEntries(ifindexes: readonly number[], entries: Map<number, Uint8Array>): Promise<void> {
    const known = ifindexes.filter((ifindex) => entries.has(ifindex));
    if (known.length === 0) return;
    await this.#apply(interfaceDeletes(known));
    for (const ifindex of known) entries.delete(ifindex);
  }

  async #apply(write: MapWrite): Promise<void> {
    const { failure } = await this.#maps.apply([write]);
    if (failure === null) return;
    this.#entries = null; // what was written before the failure is read back the next time
    throw new AppError(
      "E_INTERFACES_MAP",
      `the kernel refused a write to the map interfaces (errno ${failure.errno})`,
      {
        fields: { errno: failure.errno, entry: failure.entryIndex, kind: write.kind },
      },
    );
  }

  /** Interfaces that should carry our programs and do not: somebody else took them off, or the interface is just going. */
  async #findRemoved(plans: readonly InterfacePlan[]): Promise<ReadonlySet<number>> {
    const ours = plans.filter(({ ifindex }) => this.#attached.has(ifindex));
    const present = await this.#hooks.present(
      ours.map(({ ifindex, role }) => ({ ifindex, role: ROLES[role] })),
    );
    return new Set(ours.map(({ ifindex }) => ifindex).filter((ifindex) => !present.has(ifindex)));
  }

  /** Whether this interface has its programs already. A new name needs none: it is noted. */
  #serves(plan: InterfacePlan): boolean {
    const before = this.#attached.get(plan.ifindex);
    if (before?.role !== plan.role) return false;
    if (before.name !== plan.name) this.#attached.set(plan.ifindex, { ...before, name: plan.name });
    return true;
  }

  /** Returns on how many of `removed` the programs are again. */
  async #attach(plans: readonly InterfacePlan[], removed: ReadonlySet<number>): Promise<number> {
    if (plans.length === 0) return 0;
    let putBackCount = 0;
    const requests = plans.map(({ ifindex, role }) => ({ ifindex, role: ROLES[role], mode: this.#mode }));
    const outcomes = await this.#hooks.attach(requests);
    plans.forEach(({ ifindex, name, role }, i) => {
      const outcome = outcomes[i] as AttachOutcome;
      const before = this.#attached.get(ifindex);
      if (outcome.error === null) {
        const { mode } = outcome;
        this.#attached.set(ifindex, { name, role, mode });
        this.#complaints.delete(ifindex);
        const putBack = removed.has(ifindex);
        if (putBack) {
          putBackCount += 1;
          this.#log.warn({ iface: name, ifindex, role }, "programs were taken off by someone else");
        }
        if (putBack || before?.role !== role)
          this.#log.info({ iface: name, ifindex, role, mode }, "attached");
        return;
      }
      if (outcome.gone) return; // it went while we looked: the event about it is on its way
      this.#attached.delete(ifindex);
      this.#complain(ifindex, name, "attach_failed", outcome.error);
    });
    return putBackCount;
  }

  async #detach(ifindexes: readonly number[]): Promise<void> {
    if (ifindexes.length === 0) return;
    await this.#hooks.detach(ifindexes);
    for (const ifindex of ifindexes) {
      const before = this.#attached.get(ifindex);
      if (before === undefined) continue;
      this.#attached.delete(ifindex);
      this.#log.info({ iface: before.name, ifindex, role: before.role, mode: before.mode }, "detached");
    }
  }

  #complain(ifindex: number, iface: string, code: string, reason: string): void {
    if (this.#complaints.get(ifindex) === reason) return;
    this.#complaints.set(ifindex, reason);
    this.#log.warn({ iface, ifindex, code, reason }, "interface not served");
  }
}
