// SPDX-License-Identifier: Apache-2.0
/**
 * Snapshot in, image out. The result depends on the snapshot alone: not on the order of its objects, not on what was
 * compiled before. The incremental compiler gives the same image as a full compile, and does work for what changed only.
 */
import { inSliceOrder } from "../model/endpoints.js";
import { originText } from "../model/origin.js";
import type { EndpointSlice, NodeInfo, Problem, Service, Snapshot } from "../model/types.js";
import type { IpAddress } from "../net/ip.js";
import type { Sliced } from "../util/slices.js";
import { atOnce } from "../util/slices.js";
import { noteChanges } from "./changes.js";
import { Claims, claimKey } from "./claims.js";
import { compileServicePort, sameServicePort, servicePortKey } from "./service-port.js";
import type { Image, ServicePortImage } from "./types.js";

export interface Compiler {
  /**
   * The image of this snapshot. A Service is compiled again only when the Service object, its list of slices (by identity)
   * or the node has changed; a service port that came out equal keeps its identity, and so do `servicePorts` and the image.
   */
  compile(snapshot: Snapshot): Image;
  /** The same as work that may be paused (`inSlices`). One at a time; abandoned work costs the next compile its memory. */
  compileSliced(snapshot: Snapshot): Sliced<Image>;
}

/** What is remembered about one Service. */
interface Entry {
  readonly service: Service;
  readonly slices: readonly EndpointSlice[];
  /** Each port as if it were alone in the world. */
  readonly ports: readonly ServicePortImage[];
  /** Keys of all its frontends. */
  readonly claims: readonly string[];
  readonly ownProblems: readonly Problem[];
  /** The ports without the frontends that belong to somebody else, and why. */
  won: readonly ServicePortImage[];
  lostProblems: readonly Problem[];
  /** Those of them that the last image has. */
  published: readonly ServicePortImage[];
}

const NO_SLICES: readonly EndpointSlice[] = Object.freeze([]);
const NO_PROBLEMS: readonly Problem[] = Object.freeze([]);
const NO_PORTS: readonly ServicePortImage[] = Object.freeze([]);
const SERVICES_PER_STEP = 32;

/** Compiles from nothing. Pure. */
export function compile(snapshot: Snapshot): Image {
  return createCompiler().compile(snapshot);
}

/** An incremental compiler: `compile` in, `compile` out, and memory of the last snapshot in between. */
export function createCompiler(): Compiler {
  const state = new CompilerState();
  return {
    compile: (snapshot) => atOnce(state.run(snapshot)),
    compileSliced: (snapshot) => state.run(snapshot),
  };
}

class CompilerState {
  #entries = new Map<string, Entry>();
  #claims = new Claims();
  #node: NodeInfo | null = null;
  #sortedKeys: readonly string[] = [];
  /** Keys of the Services that have problems. */
  #troubled = new Set<string>();
  #image: Image | null = null;
  /** False while a run is under way: a run that was abandoned leaves the memory unusable. */
  #whole = true;

  *run(snapshot: Snapshot): Sliced<Image> {
    if (!this.#whole) this.#forget();
    this.#whole = false;
    const nodeChanged = this.#node === null || !sameNode(this.#node, snapshot.node);
    this.#node = snapshot.node;

    const touched = new Set<string>();
    const dirty = new Set<string>();
    let keysChanged = false;
    let count = 0;
    for (const [key, service] of snapshot.services) {
      if (++count % 4096 === 0) yield;
      const slices = snapshot.slices.get(key) ?? NO_SLICES;
      const before = this.#entries.get(key);
      if (before !== undefined && !nodeChanged && before.service === service && before.slices === slices)
        continue;
      this.#replace(key, before, compileService(service, slices, snapshot.node, before), touched);
      keysChanged ||= before === undefined;
      dirty.add(key);
      if (dirty.size % SERVICES_PER_STEP === 0) yield;
    }
    // Every Service of the snapshot has an entry now.
    if (this.#entries.size > snapshot.services.size) {
      this.#dropMissing(snapshot, touched);
      keysChanged = true;
    }
    if (dirty.size === 0 && !keysChanged && this.#image !== null) {
      this.#whole = true;
      return this.#image;
    }
    yield* this.#resolveAll(dirty, touched);
    yield;
    const image = yield* this.#assemble(dirty, keysChanged);
    this.#image = image;
    this.#whole = true;
    return image;
  }

  #forget(): void {
    this.#entries = new Map();
    this.#claims = new Claims();
    this.#node = null;
    this.#sortedKeys = [];
    this.#troubled = new Set();
    this.#image = null;
  }

  #dropMissing(snapshot: Snapshot, touched: Set<string>): void {
    for (const [key, entry] of this.#entries) {
      if (snapshot.services.has(key)) continue;
      this.#release(entry, touched);
      this.#entries.delete(key);
      this.#troubled.delete(key);
    }
  }

  #release(entry: Entry, touched: Set<string>): void {
    for (const claim of entry.claims) {
      this.#claims.remove(claim, entry.service);
      touched.add(claim);
    }
  }

  #replace(key: string, before: Entry | undefined, entry: Entry, touched: Set<string>): void {
    if (before !== undefined) this.#release(before, touched);
    for (const claim of entry.claims) {
      this.#claims.add(claim, entry.service);
      if (this.#claims.contestants(claim).length > 0) touched.add(claim);
    }
    this.#entries.set(key, entry);
  }

  /** Settles whose each frontend is, for the Services that changed and for all who claim what those claim or claimed. */
  *#resolveAll(dirty: Set<string>, touched: ReadonlySet<string>): Sliced<void> {
    for (const claim of touched) {
      for (const service of this.#claims.contestants(claim)) dirty.add(nameOf(service));
      const owner = this.#claims.owner(claim);
      if (owner !== undefined) dirty.add(nameOf(owner));
    }
    let resolved = 0;
    for (const key of dirty) {
      const entry = this.#entries.get(key);
      if (entry !== undefined) this.#resolve(key, entry);
      if (++resolved % 1024 === 0) yield;
    }
  }

  /** Leaves out the frontends that a senior Service owns (2.22). */
  #resolve(key: string, entry: Entry): void {
    this.#keepWon(entry);
    if (entry.ownProblems.length + entry.lostProblems.length > 0) this.#troubled.add(key);
    else this.#troubled.delete(key);
  }

  #keepWon(entry: Entry): void {
    const contested = entry.claims.filter((claim) => this.#claims.owner(claim) !== entry.service);
    const lost = new Map<string, Service>();
    for (const claim of contested) lost.set(claim, this.#claims.owner(claim) ?? entry.service);
    if (lost.size === 0) {
      entry.won = entry.ports;
      entry.lostProblems = NO_PROBLEMS;
      return;
    }
    const before = new Map(entry.won.map((port) => [port.key, port]));
    entry.won = entry.ports
      .map((port) => keepIdentity(withoutFrontends(port, lost), before.get(port.key)))
      .filter((port) => port.frontends.length > 0);
    entry.lostProblems = Array.from(lost, ([claim, owner]) => conflictProblem(entry.service, claim, owner));
  }

  *#assemble(dirty: ReadonlySet<string>, keysChanged: boolean): Sliced<Image> {
    const before = this.#image;
    const problems = Object.freeze(this.#problems());
    const changed = before === null || keysChanged ? null : this.#changedPorts(dirty);
    const servicePorts =
      before === null || changed === null
        ? yield* this.#allPorts(before)
        : withChanges(before.servicePorts, changed);
    for (const key of dirty) {
      const entry = this.#entries.get(key);
      if (entry !== undefined) entry.published = entry.won;
    }
    if (before?.servicePorts === servicePorts && sameProblems(before.problems, problems)) return before;
    return Object.freeze({ servicePorts, problems });
  }

  #problems(): Problem[] {
    return Array.from(this.#troubled)
      .sort()
      .flatMap((key) => {
        const entry = this.#entries.get(key);
        return entry === undefined ? [] : [...entry.ownProblems, ...entry.lostProblems];
      });
  }

  /** Null when ports have come or gone: then the order is made anew. */
  #changedPorts(dirty: ReadonlySet<string>): ServicePortImage[] | null {
    const changed: ServicePortImage[] = [];
    for (const key of dirty) {
      const { won, published } = this.#entries.get(key) ?? { won: NO_PORTS, published: NO_PORTS };
      if (won.length !== published.length) return null;
      for (const [i, port] of won.entries()) {
        if (published[i]?.key !== port.key) return null;
        if (published[i] !== port) changed.push(port);
      }
    }
    return changed;
  }

  /** In the order of their keys; the map of `before` when it says the same. */
  *#allPorts(before: Image | null): Sliced<Image["servicePorts"]> {
    this.#sortedKeys = Array.from(this.#entries.keys()).sort();
    yield;
    const servicePorts = new Map<string, ServicePortImage>();
    for (const key of this.#sortedKeys) {
      for (const port of this.#entries.get(key)?.won ?? NO_PORTS) servicePorts.set(port.key, port);
      if (servicePorts.size % 4096 === 0) yield;
    }
    if (before === null) return servicePorts;
    const changed = differentKeys(before.servicePorts, servicePorts);
    if (changed.length === 0) return before.servicePorts;
    noteChanges(before.servicePorts, servicePorts, changed);
    return servicePorts;
  }
}

function withChanges(
  before: Image["servicePorts"],
  changed: readonly ServicePortImage[],
): Image["servicePorts"] {
  if (changed.length === 0) return before;
  const servicePorts = new Map(before);
  for (const port of changed) servicePorts.set(port.key, port);
  noteChanges(
    before,
    servicePorts,
    changed.map(({ key }) => key),
  );
  return servicePorts;
}

function differentKeys(before: Image["servicePorts"], now: Image["servicePorts"]): string[] {
  const keys: string[] = [];
  let inBoth = 0;
  for (const [key, port] of now) {
    const old = before.get(key);
    if (old !== undefined) inBoth += 1;
    if (old !== port) keys.push(key);
  }
  if (inBoth === before.size) return keys;
  for (const key of before.keys()) if (!now.has(key)) keys.push(key);
  return keys;
}

function sameProblems(a: readonly Problem[], b: readonly Problem[]): boolean {
  return a.length === b.length && JSON.stringify(a) === JSON.stringify(b);
}

function nameOf(service: Service): string {
  return `${service.namespace}/${service.name}`;
}

/** One Service with all its ports. Skipped kinds have no ClusterIP in the model and come out empty (2.1). */
function compileService(
  service: Service,
  slices: readonly EndpointSlice[],
  node: NodeInfo,
  before: Entry | undefined,
): Entry {
  const ordered = inSliceOrder(slices);
  const problems: Problem[] = [];
  const clusterIPs = service.clusterIPs.filter((address) => {
    if (!isNodeAddress(address, node)) return true;
    problems.push(nodeAddressProblem(service, address, node));
    return false;
  });
  const ports: ServicePortImage[] = [];
  const claims = new Set<string>();
  for (const [index, port] of clusterIPs.length === 0 ? [] : service.ports.entries()) {
    const key = servicePortKey(service, port);
    const image = keepIdentity(
      compileServicePort(service, port, clusterIPs, ordered, node),
      before?.ports.find((other) => other.key === key),
    );
    const keys = image.frontends.map((frontend) => claimKey(frontend, port.protocol));
    // The API server refuses such Services; a hand-made one must not overwrite its own earlier port.
    if (ports.some((other) => other.key === key) || keys.some((claim) => claims.has(claim))) {
      problems.push(duplicatePortProblem(service, index));
      continue;
    }
    // Every ClusterIP was a node's address: nothing is left of the port.
    if (image.frontends.length > 0) ports.push(image);
    for (const claim of keys) claims.add(claim);
  }
  ports.sort((a, b) => (a.key < b.key ? -1 : 1));
  return {
    service,
    slices,
    ports,
    claims: Array.from(claims),
    ownProblems: problems.length === 0 ? NO_PROBLEMS : problems,
    won: before?.won ?? ports,
    lostProblems: NO_PROBLEMS,
    published: before?.published ?? NO_PORTS,
  };
}

function keepIdentity(now: ServicePortImage, before: ServicePortImage | undefined): ServicePortImage {
  return before !== undefined && sameServicePort(before, now) ? before : now;
}

function withoutFrontends(port: ServicePortImage, lost: ReadonlyMap<string, Service>): ServicePortImage {
  const frontends = port.frontends.filter((frontend) => !lost.has(claimKey(frontend, port.protocol)));
  if (frontends.length === port.frontends.length) return port;
  return Object.freeze({ ...port, frontends: Object.freeze(frontends) });
}

function isNodeAddress(address: IpAddress, node: NodeInfo): boolean {
  return node.addresses.some((own) => own.text === address.text);
}

function sameNode(a: NodeInfo, b: NodeInfo): boolean {
  return (
    a === b ||
    (a.name === b.name &&
      a.zone === b.zone &&
      a.addresses.length === b.addresses.length &&
      a.addresses.every((address, i) => address.text === b.addresses[i]?.text))
  );
}

function nodeAddressProblem(service: Service, address: IpAddress, node: NodeInfo): Problem {
  return {
    severity: "warning",
    origin: service.origin,
    object: `Service ${nameOf(service)}`,
    field: "spec.clusterIPs",
    message: `${address.text} is an address of node ${node.name}; a frontend there would capture the node's own traffic and is left out`,
  };
}

function conflictProblem(service: Service, claim: string, owner: Service): Problem {
  return {
    severity: "warning",
    origin: service.origin,
    object: `Service ${nameOf(service)}`,
    field: "spec.clusterIPs",
    message: `${claim} belongs to Service ${nameOf(owner)} (${originText(owner.origin)}), which is older or first by name; this frontend is left out`,
  };
}

function duplicatePortProblem(service: Service, index: number): Problem {
  return {
    severity: "warning",
    origin: service.origin,
    object: `Service ${nameOf(service)}`,
    field: `spec.ports[${index}]`,
    message: "repeats the name or the number of an earlier port with the same protocol and is left out",
  };
}
