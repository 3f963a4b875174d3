// SPDX-License-Identifier: Apache-2.0
/** Small random images over small pools of addresses, so that everything collides with everything sooner or later. */
import fc from "fast-check";
import type {
  BackendImage,
  ChoiceImage,
  FrontendImage,
  Image,
  ServicePortImage,
} from "../../../src/image/types.js";
import { type Cidr, parseCidr } from "../../../src/net/cidr.js";
import { type Family, type IpAddress, type Protocol, parseIp } from "../../../src/net/ip.js";

export function ip(text: string): IpAddress {
  const address = parseIp(text);
  if (!address) throw new Error(`no address: ${text}`);
  return address;
}

export function cidr(text: string): Cidr {
  const range = parseCidr(text);
  if (!range) throw new Error(`no range: ${text}`);
  return range;
}

export const PORTS = 7;
const VIPS = 6;
const BACKENDS = 5;

const vip = (family: Family, i: number): IpAddress =>
  ip(family === 4 ? `10.96.0.${i + 1}` : `fd00:96::${i + 1}`);
const pod = (family: Family, i: number): IpAddress =>
  ip(family === 4 ? `10.244.1.${i + 1}` : `fd00:244::${i + 1}`);

/** Addresses that are a VIP for one Service, and for others a pod or an address of the node: classes add up. */
const external = (family: Family, i: number): IpAddress =>
  [vip(family, 0), pod(family, 0), nodeAddress(family, 0), ip(family === 4 ? "192.0.2.1" : "2001:db8::1")][
    i
  ] as IpAddress;
const nodeAddress = (family: Family, i: number): IpAddress =>
  ip(family === 4 ? `172.16.0.${i + 1}` : `fd00:172::${i + 1}`);
const ZERO = { 4: ip("0.0.0.0"), 6: ip("::") } as const;

const RANGES: Readonly<Record<Family, readonly Cidr[]>> = {
  4: ["0.0.0.0/0", "10.0.0.0/8", "10.244.1.3/32", "192.0.2.0/24"].map(cidr),
  6: ["::/0", "fd00::/8", "fd00:244::3/128", "2001:db8::/32"].map(cidr),
};
const NETWORKS = ["10.96.0.0/16", "10.96.0.0/24", "fd00:96::/112", "fd00:96::/64"].map(cidr);

/** Bit sets over the pools. */
export interface PortSpec {
  readonly vip: number;
  readonly families: readonly Family[];
  /** Backends by bit: pod i, port 8080; and from BACKENDS on pod i, port 9090. */
  readonly backends: number;
  readonly internal: number;
  readonly external: number;
  readonly local: number;
  readonly whenEmpty: "reject" | "drop";
  readonly affinity: number;
  /** A second frontend (port 81) with the external set for everybody. */
  readonly second: boolean;
  /** Backends that do not serve, and are in no choice. */
  readonly draining: number;
  /** Members of the sets, as far as there is affinity. */
  readonly clusterSet: number;
  readonly localSet: number;
  /** Ports on which it is offered outside; 0: not of this kind. */
  readonly nodePort: number;
  readonly externalPort: number;
  readonly externalAddress: number;
  readonly externalKind: "ExternalIP" | "LoadBalancer";
  readonly masquerade: FrontendImage["masquerade"];
  readonly sets: readonly [internal: ChoiceImage["set"], external: ChoiceImage["set"]];
  /** Over RANGES; 0: everybody may. */
  readonly ranges: number;
}

const bits = fc.integer({ min: 0, max: 2 ** (BACKENDS * 2) - 1 });

export const portSpec: fc.Arbitrary<PortSpec> = fc.record({
  vip: fc.integer({ min: 0, max: VIPS - 1 }),
  families: fc.constantFrom<readonly Family[]>([4], [6], [4, 6]),
  backends: bits,
  internal: bits,
  external: fc.oneof(fc.constant(-1), bits),
  local: fc.constantFrom(0, 0, 0, 1, 2 ** (BACKENDS * 2) - 1),
  whenEmpty: fc.constantFrom("reject", "drop"),
  affinity: fc.constantFrom(0, 0, 10800),
  second: fc.boolean(),
  draining: fc.oneof({ weight: 2, arbitrary: fc.constant(0) }, bits),
  clusterSet: bits,
  localSet: bits,
  nodePort: fc.constantFrom(0, 0, 30001, 30002),
  externalPort: fc.constantFrom(0, 0, 80, 443),
  externalAddress: fc.integer({ min: 0, max: 3 }),
  externalKind: fc.constantFrom("ExternalIP", "LoadBalancer"),
  masquerade: fc.constantFrom("never", "outsiders", "always"),
  sets: fc.constantFrom<PortSpec["sets"]>(["cluster", "cluster"], ["cluster", "local"], ["local", "local"]),
  ranges: fc.oneof(fc.constant(0), fc.integer({ min: 0, max: 15 })),
});

/** What belongs to no Service: bit sets over the node's addresses and the networks. */
export interface NodeSpec {
  readonly addresses: number;
  readonly networks: number;
}

export const nodeSpec: fc.Arbitrary<NodeSpec> = fc.record({
  addresses: fc.integer({ min: 0, max: 15 }),
  networks: fc.integer({ min: 0, max: 15 }),
});

const protocolOf = (port: number): Protocol => (["TCP", "SCTP", "UDP"] as const)[port % 3] ?? "TCP";

const has = (set: number, bit: number): boolean => (set & (1 << bit)) !== 0;

function familyBackends(spec: PortSpec, family: Family): Map<number, BackendImage> {
  const backends = new Map<number, BackendImage>();
  const affine = spec.affinity > 0;
  for (let bit = 0; bit < BACKENDS * 2; bit++) {
    if (!has(spec.backends, bit)) continue;
    const serving = !has(spec.draining, bit);
    backends.set(bit, {
      address: pod(family, bit % BACKENDS),
      port: bit < BACKENDS ? 8080 : 9090,
      local: has(spec.local, bit),
      serving,
      clusterSet: affine && serving && has(spec.clusterSet, bit),
      localSet: affine && serving && has(spec.localSet, bit),
    });
  }
  return backends;
}

function familyFrontends(
  spec: PortSpec,
  family: Family,
  internal: ChoiceImage,
  outside: ChoiceImage,
): FrontendImage[] {
  const { masquerade, nodePort, externalPort, externalKind: kind } = spec;
  const address = vip(family, spec.vip);
  const common = { internal, external: outside, masquerade, sourceRanged: false };
  const offers: FrontendImage[] = [{ kind: "ClusterIP", address, port: 80, ...common }];
  if (spec.second) offers.push({ kind: "ClusterIP", address, port: 81, ...common, internal: outside });
  if (nodePort > 0) offers.push({ kind: "NodePort", address: ZERO[family], port: nodePort, ...common });
  const sourceRanged = kind === "LoadBalancer" && spec.ranges !== 0;
  const at = external(family, spec.externalAddress);
  if (externalPort > 0) offers.push({ kind, address: at, port: externalPort, ...common, sourceRanged });
  return offers;
}

export function portImage(port: number, spec: PortSpec, taken: Set<string>): ServicePortImage {
  const protocol = protocolOf(port);
  const backends: BackendImage[] = [];
  const frontends: FrontendImage[] = [];
  const sourceRanges: Cidr[] = [];
  for (const family of [4, 6] as const) {
    if (!spec.families.includes(family)) continue;
    const first = backends.length;
    const own = familyBackends(spec, family);
    backends.push(...own.values());
    const choice = (chosen: number, set: ChoiceImage["set"]): ChoiceImage => ({
      backends: [...own].flatMap(([bit, { serving }], i) => (has(chosen, bit) && serving ? [first + i] : [])),
      whenEmpty: spec.whenEmpty,
      set,
    });
    const internal = choice(spec.internal, spec.sets[0]);
    const outside =
      spec.external < 0 && spec.sets[0] === spec.sets[1] ? internal : choice(spec.external, spec.sets[1]);
    for (const offer of familyFrontends(spec, family, internal, outside)) {
      const id = `${offer.address.text} ${offer.port} ${protocol}`;
      if (!taken.has(id)) frontends.push(offer);
      taken.add(id);
    }
    sourceRanges.push(...RANGES[family].filter((_, i) => has(spec.ranges, i)));
  }
  const name = `s${port}`;
  return {
    key: `default/${name}:http/${protocol}`,
    namespace: "default",
    name,
    portName: port === 3 ? "a-port-name-longer-than-the-kernel-has-room-for" : "http",
    protocol,
    backends,
    frontends,
    affinitySeconds: spec.affinity,
    sourceRanges,
  };
}

/** Ports that did not change keep their identity, as compile() promises. */
export class ImageBuilder {
  readonly #specs: (PortSpec | null)[] = new Array(PORTS).fill(null);
  #node: NodeSpec = { addresses: 0, networks: 0 };
  #images: ReadonlyMap<number, { readonly json: string; readonly image: ServicePortImage }> = new Map();

  set(port: number, spec: PortSpec | null): void {
    this.#specs[port] = spec;
  }

  setNode(spec: NodeSpec): void {
    this.#node = spec;
  }

  build(): Image {
    const taken = new Set<string>();
    const images = new Map<number, { readonly json: string; readonly image: ServicePortImage }>();
    for (const [port, spec] of this.#specs.entries()) {
      if (!spec) continue;
      const image = portImage(port, spec, taken);
      const json = JSON.stringify(image, (_, value) => (value instanceof Uint8Array ? [...value] : value));
      const before = this.#images.get(port);
      images.set(port, before?.json === json ? before : { json, image });
    }
    this.#images = images;
    return {
      servicePorts: new Map([...images.values()].map(({ image }) => [image.key, image])),
      problems: [],
      nodePortAddresses: ([4, 6] as const).flatMap((family) =>
        [0, 1].filter((i) => has(this.#node.addresses, i + family - 4)).map((i) => nodeAddress(family, i)),
      ),
      serviceNetworks: NETWORKS.filter((_, i) => has(this.#node.networks, i)),
    };
  }
}
