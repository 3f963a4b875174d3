// SPDX-License-Identifier: Apache-2.0
/** Which address of a case lives on which test host: decided before anything is built. */
import { canonical, familyOf, isLoopback } from "../form/address.js";
import { FormError } from "../form/fields.js";
import { changed, initialState, type NamedSlice, type ObjectState } from "../form/state.js";
import type { ConformanceCase, Environment, FlowForm, ProtocolName } from "../form/types.js";

/** Role of a host. "pod": behind a veth of the node; "remote": all other nodes and what lives on them. */
export type PlaceKind = "node" | "outside" | "remote" | "pod";

export interface Place {
  readonly key: string;
  readonly kind: PlaceKind;
  readonly addresses: Set<string>;
  /** Name of the veth's end on the node; pods only. */
  readonly veth: string;
}

export interface Listener {
  readonly place: string;
  readonly proto: ProtocolName;
  readonly port: number;
  readonly addr?: string;
}

/** Where a flow starts. */
export interface Sender {
  readonly place: string;
  readonly kind: PlaceKind;
  /** The address that it sends from. */
  readonly src: string;
  /**
   * Whether the socket is bound to it. A process of the node that talks to one of the node's own addresses (loopback, or an
   * address of a load balancer that the node has: 6.17) has that address without asking for it, and so it does here.
   */
  readonly bound: boolean;
}

/** Addresses of the wire between node, outside and the other nodes. */
export interface Wire {
  readonly outside: Readonly<Record<4 | 6, string>>;
  readonly remote: Readonly<Record<4 | 6, string>>;
}

export interface GroundPlan {
  readonly places: ReadonlyMap<string, Place>;
  readonly listeners: readonly Listener[];
  /** Addresses of the node's eth0, without loopback. */
  readonly nodeAddresses: readonly string[];
  readonly wire: Wire;
  /** The interface to the outside. */
  readonly uplink: string;
  /** Name of the bridge that all pods hang on; undefined: each has a route. */
  readonly bridge: string | undefined;
  senderOf(flow: FlowForm): Sender;
}

/** A TCP port which the node always serves: the way there works even when a Service is silent. */
export const CONTROL_PORT = 9;

/** @throws FormError for a case whose senders or addresses contradict each other */
export function planGround(it: ConformanceCase): GroundPlan {
  const states = statesOf(it);
  return new Planner(it, states).plan();
}

/** The objects as they are in each round. */
export function statesOf(it: ConformanceCase): readonly ObjectState[] {
  let state = initialState(it);
  return it.rounds.map((round) => {
    state = round.changes.reduce(changed, state);
    return state;
  });
}

/** An endpoint's address with the ports it may be asked on. */
interface Endpoint {
  readonly address: string;
  readonly local: boolean;
  readonly ports: readonly { readonly port: number; readonly proto: ProtocolName }[];
}

class Planner {
  readonly #case: ConformanceCase;
  readonly #environment: Environment;
  readonly #places = new Map<string, Place>();
  readonly #nodeAddresses: readonly string[];
  readonly #endpoints: readonly Endpoint[];
  readonly #senders = new Map<FlowForm, Sender>();

  constructor(it: ConformanceCase, states: readonly ObjectState[]) {
    this.#case = it;
    this.#environment = it.environment;
    const { ips, extraLocalIPs } = it.environment.node;
    const own = [...ips, ...extraLocalIPs].map((text) => canonical(text) ?? fail(text, "is no address"));
    this.#nodeAddresses = [...new Set(own.filter((address) => !isLoopback(address)))];
    this.#endpoints = endpointsOf(states, it.environment.node.name);
  }

  plan(): GroundPlan {
    const flows = this.#case.rounds.flatMap((round) => round.flows);
    for (const key of ["node", "outside", "remote"] as const) this.#place(key, key, "");
    for (const address of this.#nodeAddresses) this.#at("node").addresses.add(address);
    for (const flow of flows) this.#senders.set(flow, this.#findSender(flow));
    for (const request of this.#case.rounds.flatMap((round) => round.http))
      if (request.from === undefined)
        for (const one of this.#outsiders()) this.#at("outside").addresses.add(one);
    const listeners = this.#endpoints.flatMap((endpoint) => this.#settle(endpoint));
    const { config } = this.#environment;
    return {
      places: this.#places,
      listeners: unique([...listeners, ...this.#ownListeners()]),
      nodeAddresses: this.#nodeAddresses,
      wire: this.#wire(),
      uplink: uplinkOf(flows, this.#senders),
      bridge: config.detectLocalMode === "BridgeInterface" ? config.bridgeInterface || "cni0" : undefined,
      senderOf: (flow) => this.#senders.get(flow) ?? fail(flow.from, "is no sender of this case"),
    };
  }

  #ownListeners(): Listener[] {
    const own = this.#environment.listening.map((one) => ({ place: "node", ...one }));
    return [...own, { place: "node", proto: "TCP", port: CONTROL_PORT }];
  }

  /** Senders from outside, one of each family: they ask the HTTP servers, too. */
  #outsiders(): string[] {
    const { ext, ext6 } = this.#environment.senders;
    return [ext, ext6]
      .filter((one) => one !== undefined)
      .map((one) => canonical(one) ?? fail(one, "is no address"));
  }

  #findSender(flow: FlowForm): Sender {
    const src = senderAddress(flow, this.#environment, this.#nodeAddresses);
    const kind: PlaceKind = flow.from.startsWith("host")
      ? "node"
      : flow.from.startsWith("pod")
        ? "pod"
        : "outside";
    if (kind === "node") {
      const chosen = src === flow.dst || (isLoopback(src) && isLoopback(flow.dst));
      return { place: "node", kind, src, bound: !chosen };
    }
    const endpoint = this.#endpoints.find((one) => one.address === src);
    if (kind === "outside") {
      const key = endpoint === undefined || endpoint.local ? "outside" : "remote";
      this.#at(key).addresses.add(src);
      return { place: key, kind: key, src, bound: true };
    }
    const name = flow.ingressIf;
    // A pod that is an endpoint too lives alone: two endpoints of one host would talk without the node.
    const key = name !== undefined ? `pod-${name}` : endpoint !== undefined ? `pod-${src}` : "pod";
    this.#place(key, "pod", name ?? this.#vethName());
    this.#at(key).addresses.add(src);
    return { place: key, kind, src, bound: true };
  }

  /** Gives an endpoint a host, and tells what listens there. */
  #settle(endpoint: Endpoint): Listener[] {
    const { address, local } = endpoint;
    if (this.#nodeAddresses.includes(address))
      return endpoint.ports.map(({ port, proto }) => ({ place: "node", proto, port, addr: address }));
    const own = [...this.#places.values()].filter(
      (place) => place.kind === (local ? "pod" : "remote") && place.addresses.has(address),
    );
    const places =
      own.length > 0 ? own : [local ? this.#place("backends", "pod", this.#vethName()) : this.#at("remote")];
    const ports = this.#endpoints.flatMap((one) => one.ports); // all ports everywhere: a wrong one shall be seen
    return places.flatMap((place) => {
      place.addresses.add(address);
      return ports.map(({ port, proto }) => ({ place: place.key, proto, port }));
    });
  }

  /** Names which the detector takes for local pods' when it goes by names. */
  #vethName(): string {
    const { detectLocalMode, interfaceNamePrefix } = this.#environment.config;
    const prefix = detectLocalMode === "InterfaceNamePrefix" ? interfaceNamePrefix || "veth" : "veth";
    const count = [...this.#places.values()].filter((place) => place.kind === "pod").length;
    return `${prefix.slice(0, 8)}ptl${count}`;
  }

  #place(key: string, kind: PlaceKind, veth: string): Place {
    const place = this.#places.get(key) ?? { key, kind, veth, addresses: new Set<string>() };
    this.#places.set(key, place);
    return place;
  }

  #at(key: string): Place {
    return this.#places.get(key) ?? fail(key, "is no host of this case");
  }

  /** Two free addresses of the node's own networks. */
  #wire(): Wire {
    const taken = new Set([...this.#places.values()].flatMap((place) => [...place.addresses]));
    const four = this.#nodeAddresses.find((one) => familyOf(one) === 4) ?? "169.254.200.1";
    const six = this.#nodeAddresses.find((one) => familyOf(one) === 6) ?? "fd00:ffff:ffff:ffff::1";
    const free4 = [254, 253, 252, 251, 250]
      .map((n) => four.replace(/\d+$/, String(n)))
      .filter((one) => !taken.has(one));
    const base = network64(six);
    const free6 = ["fe", "fd", "fc", "fb"].map((n) => canonical(`${base}:0:0:0:${n}`) as string);
    const [a4, b4] = free4;
    const [a6, b6] = free6.filter((one) => !taken.has(one));
    if (a4 === undefined || b4 === undefined || a6 === undefined || b6 === undefined)
      return fail(four, "leaves no address free beside it");
    return { outside: { 4: a4, 6: a6 }, remote: { 4: b4, 6: b6 } };
  }
}

/** The first four groups of an IPv6 address, written out. */
function network64(address: string): string {
  const [head = "", tail] = address.split("::");
  const front = head === "" ? [] : head.split(":");
  const back = tail === undefined || tail === "" ? [] : tail.split(":");
  const zeroes = tail === undefined ? [] : Array.from({ length: 8 - front.length - back.length }, () => "0");
  return [...front, ...zeroes, ...back].slice(0, 4).join(":");
}

/** The sender's address: `src`, or the fixture's of the destination's family. */
function senderAddress(flow: FlowForm, environment: Environment, nodeAddresses: readonly string[]): string {
  if (flow.src !== undefined) return sameFamily(flow, flow.src);
  const { senders } = environment;
  const family = familyOf(flow.dst);
  const names = [flow.from, `${flow.from}${family}`, flow.from.replace(/6$/, "")];
  const own = names.map((name) => canonical(senders[name] ?? "")).filter((address) => address !== undefined);
  const found = own.find((address) => familyOf(address) === family);
  if (found !== undefined) return found;
  const host = flow.from.startsWith("host")
    ? nodeAddresses.find((one) => familyOf(one) === family)
    : undefined;
  return host ?? fail(`${flow.from} to ${flow.dst}`, "there is no sender of that family");
}

function sameFamily(flow: FlowForm, src: string): string {
  if (familyOf(src) !== familyOf(flow.dst)) return fail(`${src} to ${flow.dst}`, "the families differ");
  return src;
}

/** Every address that is an endpoint at any time; local when it ever is (a pod's old copy may be called remote). */
function endpointsOf(states: readonly ObjectState[], node: string): Endpoint[] {
  const all = states.flatMap((state) => state.slices.flatMap((slice) => endpointsOfSlice(slice, node)));
  const addresses = [...new Set(all.map((one) => one.address))];
  return addresses.map((address) => {
    const same = all.filter((one) => one.address === address);
    return { address, local: same.some((one) => one.local), ports: same.flatMap((one) => one.ports) };
  });
}

function endpointsOfSlice(slice: NamedSlice, node: string): Endpoint[] {
  const ports = slice.ports.flatMap(({ port, proto }) =>
    port === null || port === 0 ? [] : [{ port, proto: proto ?? "TCP" }],
  );
  return slice.endpoints.flatMap((endpoint) =>
    endpoint.addresses
      .map((text) => canonical(text))
      .filter((address) => address !== undefined)
      .map((address) => ({ address, local: endpoint.node === node, ports })),
  );
}

function uplinkOf(flows: readonly FlowForm[], senders: ReadonlyMap<FlowForm, Sender>): string {
  const outside = flows.filter((flow) => senders.get(flow)?.kind === "outside");
  const names = new Set(outside.map((flow) => flow.ingressIf).filter((name) => name !== undefined));
  if (names.size > 1) return fail([...names].join(", "), "the outside has one interface only");
  return [...names][0] ?? "eth0";
}

function unique(listeners: readonly Listener[]): Listener[] {
  const text = (one: Listener): string => `${one.place} ${one.proto} ${one.port} ${one.addr ?? ""}`;
  return [...new Map(listeners.map((one) => [text(one), one])).values()];
}

function fail(where: string, what: string): never {
  throw new FormError(where, what);
}
