// SPDX-License-Identifier: Apache-2.0
/**
 * Makes one transaction: which service ports differ from the image, what each of them needs, what does not fit, and then
 * the writes (emit.ts). Making it changes the state as if it had been applied; whoever fails to apply it restores the state
 * from the mirror, which is changed by what has been applied only.
 */
import type { Image, ServicePortImage } from "../image/types.js";
import { FAMILIES, type Family } from "../net/ip.js";
import { protocolNumber } from "../net/port.js";
import type { Sliced } from "../util/slices.js";
import { VersionedMap } from "../util/versioned-map.js";
import { Emission, type Plan } from "./emit.js";
import { addrPortName, addrPortText, nameText } from "./keys.js";
import { planNodeWide } from "./node-wide.js";
import { isAbsentIn, isRefusal, type PreparedFamily, prepareFamily, undoFamily } from "./prepare.js";
import { frontendTaken, mapFull, type Refusal } from "./refusal.js";
import { emptyPort, type PortState, type State } from "./state.js";

/** A service port that will be written. */
export interface PreparedPort {
  readonly image: ServicePortImage;
  /** nameText(). */
  readonly name: string;
  readonly port: PortState;
  readonly isNew: boolean;
  readonly families: readonly PreparedFamily[];
}

interface Change {
  readonly image: ServicePortImage;
  readonly name: string;
  readonly port: PortState | null;
}

const STRIDE = 4096;
/** Between two chances to pause: what has very many backends pauses in between. */
const PORTS = 16;

/** `sync` is a number that no earlier plan for this state had; `now` milliseconds of the clock. */
export function* makePlan(state: State, image: Image, sync: number, now: number): Sliced<Plan> {
  settle(state, now);
  const hint = state.synced && VersionedMap.changedKeys(state.synced, image.servicePorts);
  state.synced = null;
  const nodeWide = planNodeWide(state, image);
  const { changes, removed } = hint
    ? yield* changesOf(state, image, hint)
    : yield* findChanges(state, image, sync);
  const admission = new Admission(state, new Set(removed));
  for (const [i, change] of changes.entries()) {
    yield* admission.admit(change);
    if (i % PORTS === PORTS - 1) yield;
  }
  admission.refuseTaken();
  const emission = new Emission(state, admission.claims);
  emission.nodeWide(nodeWide);
  for (const port of removed) {
    emission.remove(port);
    yield;
  }
  for (const [i, port] of admission.admitted.entries()) {
    yield* emission.put(port);
    if (i % PORTS === PORTS - 1) yield;
  }
  if (admission.refused.length === 0) state.synced = image.servicePorts;
  return yield* emission.plan([...nodeWide.refused, ...admission.refused]);
}

function settle({ indexes, families }: State, now: number): void {
  indexes.settle(now);
  for (const family of FAMILIES) {
    families[family].cells.settle(now);
    families[family].slots.settle(now);
  }
}

interface Changes {
  /** Ports that are there first, so that new ones cannot take what they need; each by key. */
  readonly changes: readonly Change[];
  readonly removed: readonly PortState[];
}

/** Looks at every service port. */
function* findChanges(state: State, image: Image, sync: number): Sliced<Changes> {
  const changes: Change[] = [];
  let seen = 0;
  for (const [key, wanted] of image.servicePorts) {
    seen += 1;
    if (seen % STRIDE === 0) yield;
    const known = state.byKey.get(key);
    if (known?.image === wanted) {
      known.wantedBy = sync;
      continue;
    }
    const change = changeOf(state, wanted, known);
    if (change.port) change.port.wantedBy = sync;
    changes.push(change);
    if (changes.length % 64 === 0) yield;
  }
  const removed: PortState[] = [];
  for (const ports of [state.ports.values(), state.strays])
    for (const port of ports) if (port.wantedBy !== sync) removed.push(port);
  yield;
  return { changes: inOrder(changes), removed };
}

/** Looks at the ports with these keys: the state is that of an image which differs in no others. */
function* changesOf(state: State, image: Image, keys: ReadonlySet<string>): Sliced<Changes> {
  const changes: Change[] = [];
  const removed: PortState[] = [];
  let seen = 0;
  for (const key of keys) {
    const known = state.byKey.get(key);
    const wanted = image.servicePorts.get(key);
    if (wanted) changes.push(changeOf(state, wanted, known));
    else if (known) removed.push(known);
    seen += 1;
    if (seen % 64 === 0) yield;
  }
  // A name that the map cannot hold whole may be found again under another key.
  const kept = new Set(changes.map(({ port }) => port));
  return { changes: inOrder(changes), removed: removed.filter((port) => !kept.has(port)) };
}

function changeOf(state: State, image: ServicePortImage, known: PortState | undefined): Change {
  const name = nameText(image);
  return { image, name, port: known ?? state.ports.get(name) ?? adopt(state, image, name) };
}

function inOrder(changes: readonly Change[]): readonly Change[] {
  const byKey = (a: Change, b: Change): number => (a.image.key < b.image.key ? -1 : 1);
  const known = changes.filter(({ port }) => port !== null).sort(byKey);
  const added = changes.filter(({ port }) => port === null).sort(byKey);
  return [...known, ...added];
}

/** The name of an index was lost: its frontends tell whose it is, and the cells keep serving the flows they have. */
function adopt(state: State, image: ServicePortImage, name: string): PortState | null {
  if (state.strays.size === 0) return null;
  const protocol = protocolNumber(image.protocol);
  for (const { address, port } of image.frontends) {
    const key = addrPortText(address, port, protocol);
    const owner = state.families[address.family].owners.get(key);
    if (!owner || !state.strays.has(owner) || state.mirror.names.has(owner.index)) continue;
    if (owner.index >= state.indexes.capacity) continue;
    state.strays.delete(owner);
    state.ports.set(name, owner);
    owner.name = name;
    return owner;
  }
  return null;
}

/** Who has a frontend that another port wants. */
interface Holder {
  readonly frontend: string;
  readonly name: string;
}

/** Decides who fits. Everything that an admitted port needs is its own from then on. */
class Admission {
  admitted: PreparedPort[] = [];
  readonly refused: Refusal[] = [];
  /** By key of a frontend: the admitted port that wants it. */
  readonly claims: Readonly<Record<Family, Map<string, PreparedPort>>> = { 4: new Map(), 6: new Map() };
  readonly #state: State;
  readonly #removed: ReadonlySet<PortState>;
  readonly #addedFrontends: Record<Family, number> = { 4: 0, 6: 0 };
  readonly #addedSourceRanges: Record<Family, number> = { 4: 0, 6: 0 };
  #addedNames = 0;

  constructor(state: State, removed: ReadonlySet<PortState>) {
    this.#state = state;
    this.#removed = removed;
  }

  *admit(change: Change): Sliced<void> {
    const result = yield* this.#prepare(change);
    if ("code" in result) this.refused.push(result);
    else this.#accept(result);
  }

  #accept(prepared: PreparedPort): void {
    const rival = this.#rivalOf(prepared);
    if (rival) {
      this.#reject(prepared, rival);
      return;
    }
    this.admitted.push(prepared);
    for (const { state, frontends, addedFrontends, addedSourceRanges } of prepared.families) {
      const { family } = state.mirror;
      for (const key of frontends.keys()) this.claims[family].set(key, prepared);
      this.#addedFrontends[family] += addedFrontends;
      this.#addedSourceRanges[family] += addedSourceRanges;
    }
    if (!this.#state.mirror.names.has(prepared.port.index)) this.#addedNames += 1;
  }

  *#prepare({ image, name, port }: Change): Sliced<PreparedPort | Refusal> {
    const { indexes, mirror } = this.#state;
    const roomForNames = mirror.capacity.services - mirror.names.size - this.#addedNames;
    if (!(port && mirror.names.has(port.index)) && roomForNames < 1)
      return mapFull(image.key, "services", 1, 0, false);
    const index = port?.index ?? indexes.allocate();
    if (index === null) return mapFull(image.key, "services", 1, 0, indexes.quarantined > 0);
    const target = port ?? emptyPort(index);
    const families: PreparedFamily[] = [];
    for (const family of FAMILIES) {
      const result = yield* this.#prepareFamily(family, target, image);
      if (result === null) continue;
      if (isRefusal(result)) {
        undo({ families });
        if (!port) indexes.giveBack(index);
        return result;
      }
      families.push(result);
    }
    return { image, name, port: target, isNew: port === null, families };
  }

  /** Null: nothing there, nothing wanted. */
  *#prepareFamily(
    family: Family,
    port: PortState,
    image: ServicePortImage,
  ): Sliced<PreparedFamily | Refusal | null> {
    const state = this.#state.families[family];
    const before = port.families[family];
    if (before === null && isAbsentIn(family, image)) return null;
    const { capacity, frontends, sourceRanges } = state.mirror;
    const room = {
      frontends: capacity.frontends - frontends.size - this.#addedFrontends[family],
      sourceRanges: capacity.sourceRanges - sourceRanges.size - this.#addedSourceRanges[family],
    };
    const result = yield* prepareFamily(state, before, port.index, image, room);
    return !isRefusal(result) && before === null && result.after === null ? null : result;
  }

  /** Another admitted port that wants one of its frontends. */
  #rivalOf({ families }: PreparedPort): Holder | null {
    for (const { state, frontends } of families) {
      const { family } = state.mirror;
      for (const key of frontends.keys()) {
        const other = this.claims[family].get(key);
        if (other) return { frontend: addrPortName(family, key), name: other.image.key };
      }
    }
    return null;
  }

  /** A frontend may move between ports only when the one that has it lets it go in this very transaction. */
  refuseTaken(): void {
    if (FAMILIES.every((family) => this.#state.families[family].owners.size === 0)) return;
    for (;;) {
      const leaving = new Map(this.admitted.map((prepared) => [prepared.port, prepared]));
      const kept = this.admitted.filter((prepared) => !this.#holderOf(prepared, leaving));
      if (kept.length === this.admitted.length) return;
      for (const prepared of this.admitted) {
        const holder = this.#holderOf(prepared, leaving);
        if (holder) this.#withdraw(prepared, holder);
      }
      this.admitted = kept;
    }
  }

  #holderOf({ port, families }: PreparedPort, leaving: ReadonlyMap<PortState, PreparedPort>): Holder | null {
    for (const { state, before, frontends } of families) {
      for (const key of frontends.keys()) {
        if (before?.frontends.has(key)) continue;
        const owner = state.owners.get(key);
        if (owner === undefined || owner === port || this.#removed.has(owner) || leaving.has(owner)) continue;
        const name = owner.image?.key ?? `service index ${owner.index}`;
        return { frontend: addrPortName(state.mirror.family, key), name };
      }
    }
    return null;
  }

  #withdraw(prepared: PreparedPort, holder: Holder): void {
    for (const { state, frontends } of prepared.families)
      for (const key of frontends.keys()) this.claims[state.mirror.family].delete(key);
    this.#reject(prepared, holder);
  }

  #reject(prepared: PreparedPort, holder: Holder): void {
    this.refused.push(frontendTaken(prepared.image.key, holder.frontend, holder.name));
    undo(prepared);
    if (prepared.isNew) this.#state.indexes.giveBack(prepared.port.index);
  }
}

function undo({ families }: Pick<PreparedPort, "families">): void {
  for (const family of families) undoFamily(family);
}
