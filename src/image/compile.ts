// SPDX-License-Identifier: Apache-2.0
/**
 * Snapshot, configuration and host in, image out. The result depends on those alone: not on the order of its objects, not on what was
 * compiled before. The incremental compiler gives the same image as a full compile, and does work for what changed only.
 */
import { inSliceOrder } from "../model/endpoints.js";
import { nodePortAddresses, unmatchedNodePortAddresses } from "../model/node-port-addresses.js";
import { originText } from "../model/origin.js";
import { changedServices } from "../model/snapshot-changes.js";
import type {
  EndpointSlice,
  HostFacts,
  NodeInfo,
  Problem,
  ProxyConfig,
  ReservedAddress,
  Service,
  Snapshot,
} from "../model/types.js";
import type { Cidr } from "../net/cidr.js";
import { cidrUnion } from "../net/cidr.js";
import type { IpAddress } from "../net/ip.js";
import { sameTexts } from "../net/ip.js";
import { frozenList } from "../util/frozen-list.js";
import type { Sliced } from "../util/slices.js";
import { atOnce } from "../util/slices.js";
import { VersionedMap } from "../util/versioned-map.js";
import { Claims, claimKey } from "./claims.js";
import { healthCheckProblem } from "./health-checks.js";
import { ReservedAddresses } from "./reserved.js";
import { nameOf, servedClusterIPs, servedPorts } from "./served.js";
import { compileServicePort, sameServicePort } from "./service-port.js";
import type { FrontendImage, Image, ServicePortImage } from "./types.js";

/** kube-proxy's of iptables mode without a --cluster-cidr: no local detector, NodePorts on every address. */
export const DEFAULT_PROXY_CONFIG: ProxyConfig = Object.freeze({
  masqueradeAll: false,
  localDetector: Object.freeze({ 4: false, 6: false }),
  nodePortAddresses: Object.freeze([]),
  externalIPs: true,
});

/** Nothing is known of the host: what the Node object says are its addresses is taken for them, and nothing is reserved. */
export const NO_HOST_FACTS: HostFacts = Object.freeze({
  localAddresses: Object.freeze([]),
  reserved: Object.freeze([]),
});

export interface Compiler {
  /**
   * The image of this snapshot on this host (NO_HOST_FACTS unless given). A Service is compiled again only when the Service
   * object, its list of slices (by identity) or the node has changed; when the host has, only what may capture an address
   * of it is looked at again. A service port that came out equal keeps its identity, and so do `servicePorts`,
   * `nodePortAddresses`, `serviceNetworks` and the image. Which Services to look at, versions of one VersionedMap tell;
   * of other maps, all are. `servicePorts` is such a version: of the one before, unless that was forgotten.
   */
  compile(snapshot: Snapshot, host?: HostFacts): Image;
  /** The same as work that may be paused (`inSlices`). One at a time; abandoned work costs the next compile its memory. */
  compileSliced(snapshot: Snapshot, host?: HostFacts): Sliced<Image>;
}

/** What is remembered about one Service. */
interface Entry {
  readonly service: Service;
  readonly slices: readonly EndpointSlice[];
  /** Each port as if it were alone in the world. */
  readonly ports: readonly ServicePortImage[];
  /** It has more than ClusterIPs. */
  readonly exposed: boolean;
  readonly ownProblems: readonly Problem[];
  /** The ports without the frontends that would capture an address of this host, and why. */
  offered: readonly ServicePortImage[];
  refusals: readonly Problem[];
  /** Keys of the frontends that are offered. */
  claims: readonly string[];
  /** The ports without the frontends that belong to somebody else, and why. */
  won: readonly ServicePortImage[];
  lostProblems: readonly Problem[];
  /** Those of them that the last image has. */
  published: readonly ServicePortImage[];
}

const NO_SLICES: readonly EndpointSlice[] = Object.freeze([]);
const NO_PROBLEMS: readonly Problem[] = Object.freeze([]);
const NO_CLAIMS: readonly string[] = Object.freeze([]);
const NO_PORTS: readonly ServicePortImage[] = Object.freeze([]);
const SERVICES_PER_STEP = 32;

/** Compiles from nothing. Pure. */
export function compile(
  snapshot: Snapshot,
  config: ProxyConfig = DEFAULT_PROXY_CONFIG,
  host: HostFacts = NO_HOST_FACTS,
): Image {
  return createCompiler(config).compile(snapshot, host);
}

/** An incremental compiler: `compile` in, `compile` out, and memory of the last snapshot and host in between. */
export function createCompiler(config: ProxyConfig = DEFAULT_PROXY_CONFIG): Compiler {
  const state = new CompilerState(config);
  return {
    compile: (snapshot, host = NO_HOST_FACTS) => atOnce(state.run(snapshot, host)),
    compileSliced: (snapshot, host = NO_HOST_FACTS) => state.run(snapshot, host),
  };
}

/** What all Services of one compile have in common. */
interface Surroundings {
  readonly node: NodeInfo;
  readonly host: HostFacts;
  readonly nodePortAddresses: readonly IpAddress[];
  readonly reserved: ReservedAddresses;
}

class CompilerState {
  readonly #config: ProxyConfig;
  #entries = new Map<string, Entry>();
  #claims = new Claims();
  #surroundings: Surroundings | null = null;
  /** That the entries are of. */
  #snapshot: Snapshot | null = null;
  /** Keys of the Services that have more than ClusterIPs. */
  #exposed = new Set<string>();
  /** Keys of the Services that have problems. */
  #troubled = new Set<string>();
  /** Theirs; null when they may be others by now. */
  #serviceProblems: readonly Problem[] | null = null;
  #servicePorts: VersionedMap<string, ServicePortImage> | null = null;
  #image: Image | null = null;
  /** False while a run is under way: a run that was abandoned leaves the memory unusable. */
  #whole = true;

  constructor(config: ProxyConfig) {
    this.#config = config;
  }

  *run(snapshot: Snapshot, host: HostFacts): Sliced<Image> {
    if (!this.#whole) this.#forget();
    this.#whole = false;
    const before = this.#surroundings;
    const now = this.#surround(snapshot.node, host);
    this.#surroundings = now;
    const nodeChanged = before === null || !compilesAlike(before.node, now.node);

    const touched = new Set<string>();
    const dirty = new Set<string>();
    if (before !== null && before.reserved !== now.reserved)
      this.#settleExposed(now.reserved, touched, dirty);
    const changed = nodeChanged ? null : changedServices(this.#snapshot, snapshot);
    const gone = yield* changed === null
      ? this.#updateAll(snapshot, now, nodeChanged, touched, dirty)
      : this.#update(changed, snapshot, now, touched, dirty);
    this.#snapshot = snapshot;
    yield* this.#resolveAll(dirty, touched);
    yield;
    const image = yield* this.#assemble(snapshot, now, dirty, gone);
    this.#image = image;
    this.#whole = true;
    return image;
  }

  /** Keeps the identity of what comes out equal. */
  #surround(node: NodeInfo, host: HostFacts): Surroundings {
    const before = this.#surroundings;
    const facts = host === NO_HOST_FACTS ? { ...host, localAddresses: node.addresses } : host;
    const found = nodePortAddresses(this.#config.nodePortAddresses, node, facts.localAddresses);
    const sameNodePorts = before !== null && sameTexts(before.nodePortAddresses, found);
    const addresses = sameNodePorts ? before.nodePortAddresses : Object.freeze(found);
    const sameReserved = sameNodePorts && sameHost(before.host, facts);
    const reserved = sameReserved
      ? before.reserved
      : new ReservedAddresses(facts, new Set(addresses.map(({ text }) => text)));
    return { node, host: facts, nodePortAddresses: addresses, reserved };
  }

  /** Looks again at what may capture an address of this host. */
  #settleExposed(reserved: ReservedAddresses, touched: Set<string>, dirty: Set<string>): void {
    for (const key of this.#exposed) {
      const entry = this.#entries.get(key);
      if (entry === undefined) continue;
      // Nearly always: nothing was refused, and nothing is.
      if (entry.refusals.length === 0 && !capturesAny(entry.ports, reserved)) continue;
      this.#release(entry, touched);
      settle(entry, entry, reserved);
      this.#claim(entry, touched);
      dirty.add(key);
    }
  }

  /** Compiles these Services, or forgets them. Returns the ports of those that went. */
  *#update(
    keys: ReadonlySet<string>,
    snapshot: Snapshot,
    surroundings: Surroundings,
    touched: Set<string>,
    dirty: Set<string>,
  ): Sliced<readonly ServicePortImage[]> {
    const gone: ServicePortImage[] = [];
    for (const key of keys) {
      const service = snapshot.services.get(key);
      if (service === undefined) gone.push(...this.#drop(key, touched));
      else yield* this.#updateService(key, service, snapshot, surroundings, touched, dirty);
    }
    return gone;
  }

  /** Looks at every Service: compiles those that changed, and forgets those that went. Returns the ports of those. */
  *#updateAll(
    snapshot: Snapshot,
    surroundings: Surroundings,
    nodeChanged: boolean,
    touched: Set<string>,
    dirty: Set<string>,
  ): Sliced<readonly ServicePortImage[]> {
    let count = 0;
    for (const [key, service] of snapshot.services) {
      if (++count % 4096 === 0) yield;
      const before = this.#entries.get(key);
      const same = before?.service === service && before.slices === (snapshot.slices.get(key) ?? NO_SLICES);
      if (same && !nodeChanged) continue;
      yield* this.#updateService(key, service, snapshot, surroundings, touched, dirty);
    }
    // Every Service of the snapshot has an entry now.
    if (this.#entries.size === snapshot.services.size) return NO_PORTS;
    const missing = Array.from(this.#entries.keys()).filter((key) => !snapshot.services.has(key));
    return missing.flatMap((key) => this.#drop(key, touched));
  }

  *#updateService(
    key: string,
    service: Service,
    { slices: all }: Snapshot,
    { node, reserved }: Surroundings,
    touched: Set<string>,
    dirty: Set<string>,
  ): Sliced<void> {
    const before = this.#entries.get(key);
    const entry = compileService(service, all.get(key) ?? NO_SLICES, node, this.#config, before);
    settle(entry, before, reserved);
    this.#replace(key, before, entry, touched);
    dirty.add(key);
    if (dirty.size % SERVICES_PER_STEP === 0) yield;
  }

  #forget(): void {
    this.#entries = new Map();
    this.#claims = new Claims();
    this.#surroundings = null;
    this.#snapshot = null;
    this.#exposed = new Set();
    this.#troubled = new Set();
    this.#serviceProblems = null;
    this.#servicePorts = null;
    this.#image = null;
  }

  /** Returns its ports of the last image; none when there is no such Service. */
  #drop(key: string, touched: Set<string>): readonly ServicePortImage[] {
    const entry = this.#entries.get(key);
    if (entry === undefined) return NO_PORTS;
    this.#release(entry, touched);
    this.#entries.delete(key);
    this.#exposed.delete(key);
    if (this.#troubled.delete(key)) this.#serviceProblems = null;
    return entry.published;
  }

  #release(entry: Entry, touched: Set<string>): void {
    for (const claim of entry.claims) {
      this.#claims.remove(claim, entry.service);
      touched.add(claim);
    }
  }

  #replace(key: string, before: Entry | undefined, entry: Entry, touched: Set<string>): void {
    if (before !== undefined) this.#release(before, touched);
    this.#claim(entry, touched);
    this.#entries.set(key, entry);
    if (entry.exposed) this.#exposed.add(key);
    else this.#exposed.delete(key);
  }

  #claim(entry: Entry, touched: Set<string>): void {
    for (const claim of entry.claims) {
      this.#claims.add(claim, entry.service);
      if (this.#claims.contestants(claim).length > 0) touched.add(claim);
    }
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
    const troubled = entry.ownProblems.length + entry.refusals.length + entry.lostProblems.length > 0;
    if (troubled || this.#troubled.has(key)) this.#serviceProblems = null;
    if (troubled) this.#troubled.add(key);
    else this.#troubled.delete(key);
  }

  #keepWon(entry: Entry): void {
    let lost: Map<string, Service> | null = null;
    for (const claim of entry.claims) {
      const owner = this.#claims.owner(claim);
      if (owner === undefined || owner === entry.service) continue;
      lost ??= new Map();
      lost.set(claim, owner);
    }
    if (lost === null) {
      // What was cut short before may be equal to what is whole now.
      entry.won = keepIdentities(entry.offered, entry.won);
      entry.lostProblems = NO_PROBLEMS;
      return;
    }
    const owners = lost;
    entry.lostProblems = entry.offered.flatMap((port) =>
      port.frontends.flatMap((frontend) => {
        const owner = owners.get(claimKey(frontend, port.protocol));
        return owner === undefined ? [] : conflictProblem(entry.service, port, frontend, owner);
      }),
    );
    entry.won = withoutFrontends(
      entry.offered,
      (frontend, port) => owners.has(claimKey(frontend, port.protocol)),
      entry.won,
    );
  }

  *#assemble(
    snapshot: Snapshot,
    surroundings: Surroundings,
    dirty: ReadonlySet<string>,
    gone: readonly ServicePortImage[],
  ): Sliced<Image> {
    const before = this.#image;
    const addresses = surroundings.nodePortAddresses;
    const networks = sortedNetworks(snapshot.serviceCIDRs, before?.serviceNetworks ?? null);
    const problems = this.#problems(surroundings, before?.problems ?? null);
    const servicePorts =
      this.#servicePorts === null
        ? VersionedMap.of(yield* this.#allPorts())
        : this.#servicePorts.with(this.#changedPorts(dirty, gone));
    this.#servicePorts = servicePorts;
    for (const key of dirty) {
      const entry = this.#entries.get(key);
      if (entry !== undefined) entry.published = entry.won;
    }
    if (
      before?.servicePorts === servicePorts &&
      before.nodePortAddresses === addresses &&
      before.serviceNetworks === networks &&
      before.problems === problems
    ) {
      return before;
    }
    return Object.freeze({ servicePorts, problems, nodePortAddresses: addresses, serviceNetworks: networks });
  }

  /** 6.3, as long as there is a Service that could have NodePorts. */
  #hostProblems({ node, nodePortAddresses: found }: Surroundings): readonly Problem[] {
    if (this.#exposed.size === 0) return NO_PROBLEMS;
    return unmatchedNodePortAddresses(this.#config.nodePortAddresses, node, found).map(
      ({ family, asked }) => ({
        severity: "warning",
        origin: null,
        object: `Node ${node.name}`,
        field: "--nodeport-addresses",
        message: `no IPv${family} address of this host is ${asked.includes(" ") ? asked : `in ${asked}`}; NodePorts are not served there`,
      }),
    );
  }

  /** Those of `before` when they are the same. */
  #problems(surroundings: Surroundings, before: readonly Problem[] | null): readonly Problem[] {
    const ofHost = this.#hostProblems(surroundings);
    if (this.#serviceProblems !== null && before !== null) {
      const unchanged = ofHost.length === before.length - this.#serviceProblems.length;
      if (unchanged && sameProblems(ofHost, before.slice(0, ofHost.length))) return before;
    }
    this.#serviceProblems ??= this.#collectProblems();
    const problems = Object.freeze([...ofHost, ...this.#serviceProblems]);
    return before !== null && sameProblems(before, problems) ? before : problems;
  }

  #collectProblems(): readonly Problem[] {
    return Array.from(this.#troubled)
      .sort()
      .flatMap((key) => {
        const entry = this.#entries.get(key);
        return entry === undefined ? [] : [...entry.ownProblems, ...entry.refusals, ...entry.lostProblems];
      });
  }

  /** Of the Services that changed and of those that went. */
  #changedPorts(
    dirty: ReadonlySet<string>,
    gone: readonly ServicePortImage[],
  ): ReadonlyMap<string, ServicePortImage | undefined> {
    const changes = new Map<string, ServicePortImage | undefined>();
    for (const { key } of gone) changes.set(key, undefined);
    for (const key of dirty) {
      const { won, published } = this.#entries.get(key) ?? { won: NO_PORTS, published: NO_PORTS };
      for (const port of published) changes.set(port.key, undefined);
      for (const port of won) changes.set(port.key, port);
    }
    return changes;
  }

  *#allPorts(): Sliced<ReadonlyMap<string, ServicePortImage>> {
    const servicePorts = new Map<string, ServicePortImage>();
    for (const { won } of this.#entries.values()) {
      for (const port of won) servicePorts.set(port.key, port);
      if (servicePorts.size % 4096 === 0) yield;
    }
    return servicePorts;
  }
}

function sameProblems(a: readonly Problem[], b: readonly Problem[]): boolean {
  if (a.length === 0 && b.length === 0) return true;
  return a.length === b.length && JSON.stringify(a) === JSON.stringify(b);
}

/** One Service with all its ports. Skipped kinds have no ClusterIP in the model and come out empty (2.1). */
function compileService(
  service: Service,
  slices: readonly EndpointSlice[],
  node: NodeInfo,
  config: ProxyConfig,
  before: Entry | undefined,
): Entry {
  const ordered = inSliceOrder(slices);
  const problems: Problem[] = [];
  const unchecked = healthCheckProblem(service);
  if (unchecked !== null) problems.push(unchecked);
  const clusterIPs = servedClusterIPs(service, node, problems);
  const found: ServicePortImage[] = [];
  for (const spec of clusterIPs.length === 0 ? [] : servedPorts(service, problems)) {
    const image = compileServicePort(service, spec, clusterIPs, ordered, node, config);
    const earlier = before?.ports.find((other) => other.key === image.key);
    found.push(keepIdentity(image, earlier));
  }
  const ports = frozenList(found.sort((a, b) => (a.key < b.key ? -1 : 1)));
  return {
    service,
    slices,
    ports,
    exposed: ports.some((port) => port.frontends.some(({ kind }) => kind !== "ClusterIP")),
    ownProblems: problems.length === 0 ? NO_PROBLEMS : problems,
    offered: ports,
    refusals: NO_PROBLEMS,
    claims: NO_CLAIMS,
    won: before?.won ?? ports,
    lostProblems: NO_PROBLEMS,
    published: before?.published ?? NO_PORTS,
  };
}

function capturesAny(ports: readonly ServicePortImage[], reserved: ReservedAddresses): boolean {
  return ports.some((port) =>
    port.frontends.some((frontend) => reserved.capturedBy(frontend, port.protocol) !== null),
  );
}

/** Decides what of an entry is offered on this host. `before`: whose ports keep their identity. */
function settle(entry: Entry, before: Entry | undefined, reserved: ReservedAddresses): void {
  const refusals: Problem[] = [];
  if (entry.exposed) {
    entry.offered = withoutFrontends(
      entry.ports,
      (frontend, port) => {
        const use = reserved.capturedBy(frontend, port.protocol);
        if (use !== null) refusals.push(refusalProblem(entry.service, port, frontend, use));
        return use !== null;
      },
      before?.offered ?? NO_PORTS,
    );
  }
  entry.refusals = refusals.length === 0 ? NO_PROBLEMS : refusals;
  const claims: string[] = [];
  for (const { frontends, protocol } of entry.offered)
    for (const frontend of frontends) claims.push(claimKey(frontend, protocol));
  entry.claims = frozenList(claims);
}

function keepIdentity(now: ServicePortImage, before: ServicePortImage | undefined): ServicePortImage {
  return before !== undefined && sameServicePort(before, now) ? before : now;
}

function keepIdentities(
  now: readonly ServicePortImage[],
  before: readonly ServicePortImage[],
): readonly ServicePortImage[] {
  if (now === before || now.every((port, i) => port === before[i])) return now;
  return now.map((port) =>
    keepIdentity(
      port,
      before.find((other) => other.key === port.key),
    ),
  );
}

/** The ports without some frontends; those without any left are left out. What is as `before` keeps its identity. */
function withoutFrontends(
  ports: readonly ServicePortImage[],
  isOut: (frontend: FrontendImage, port: ServicePortImage) => boolean,
  before: readonly ServicePortImage[],
): readonly ServicePortImage[] {
  return ports.flatMap((port) => {
    const frontends = port.frontends.filter((frontend) => !isOut(frontend, port));
    const earlier = before.find((other) => other.key === port.key);
    if (frontends.length === port.frontends.length) return keepIdentity(port, earlier);
    if (frontends.length === 0) return [];
    const ranged = frontends.some(({ sourceRanged }) => sourceRanged);
    const rest = Object.freeze({
      ...port,
      frontends: Object.freeze(frontends),
      sourceRanges: ranged ? port.sourceRanges : Object.freeze([]),
    });
    return keepIdentity(rest, earlier);
  });
}

function sortedNetworks(serviceCIDRs: readonly Cidr[], before: readonly Cidr[] | null): readonly Cidr[] {
  const networks = cidrUnion(serviceCIDRs);
  return before !== null && sameTexts(before, networks) ? before : Object.freeze(networks);
}

function sameHost(a: HostFacts, b: HostFacts): boolean {
  if (a === b) return true;
  return (
    sameTexts(a.localAddresses, b.localAddresses) &&
    a.reserved.length === b.reserved.length &&
    a.reserved.every((one, i) => reservedText(one) === reservedText(b.reserved[i] ?? one))
  );
}

function reservedText({ address, port, protocol, use, refusesNodePorts }: ReservedAddress): string {
  return `${address?.text ?? "*"} ${port}/${protocol} ${refusesNodePorts === true} ${use}`;
}

/** In what a compile asks of it: its own range of pod addresses is nothing to it. */
function compilesAlike(a: NodeInfo, b: NodeInfo): boolean {
  return a === b || (a.name === b.name && a.zone === b.zone && sameTexts(a.addresses, b.addresses));
}

const FIELDS: Readonly<Record<FrontendImage["kind"], string>> = {
  ClusterIP: "spec.clusterIPs",
  ExternalIP: "spec.externalIPs",
  LoadBalancer: "status.loadBalancer.ingress",
  NodePort: "spec.ports",
};

/** "10.96.0.1:80/TCP", "IPv6 NodePort 30080/TCP": how a problem that concerns a frontend begins. */
export function frontendText(port: ServicePortImage, frontend: FrontendImage): string {
  if (frontend.kind !== "NodePort") return claimKey(frontend, port.protocol);
  return `IPv${frontend.address.family} NodePort ${frontend.port}/${port.protocol}`;
}

function fieldOf(service: Service, port: ServicePortImage, { kind }: FrontendImage): string {
  if (kind !== "NodePort") return FIELDS[kind];
  const index = service.ports.findIndex(
    ({ name, protocol }) => name === port.portName && protocol === port.protocol,
  );
  return `spec.ports[${index}].nodePort`;
}

function conflictProblem(
  service: Service,
  port: ServicePortImage,
  frontend: FrontendImage,
  owner: Service,
): Problem {
  return {
    severity: "warning",
    origin: service.origin,
    object: `Service ${nameOf(service)}`,
    field: fieldOf(service, port, frontend),
    message: `${frontendText(port, frontend)} belongs to Service ${nameOf(owner)} (${originText(owner.origin)}), which is older or first by name; this frontend is left out`,
  };
}

function refusalProblem(
  service: Service,
  port: ServicePortImage,
  frontend: FrontendImage,
  { use }: ReservedAddress,
): Problem {
  return {
    severity: "error",
    origin: service.origin,
    object: `Service ${nameOf(service)}`,
    field: fieldOf(service, port, frontend),
    message: `${frontendText(port, frontend)} would capture this node's traffic to ${use}; this frontend is left out`,
  };
}
