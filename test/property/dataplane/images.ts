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
import { type Family, type IpAddress, type Protocol, parseIp } from "../../../src/net/ip.js";

export function ip(text: string): IpAddress {
  const address = parseIp(text);
  if (!address) throw new Error(`no address: ${text}`);
  return address;
}

export const PORTS = 7;
const VIPS = 6;
const BACKENDS = 5;

const vip = (family: Family, i: number): IpAddress =>
  ip(family === 4 ? `10.96.0.${i + 1}` : `fd00:96::${i + 1}`);
const pod = (family: Family, i: number): IpAddress =>
  ip(family === 4 ? `10.244.1.${i + 1}` : `fd00:244::${i + 1}`);

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
});

const protocolOf = (port: number): Protocol => (["TCP", "SCTP", "UDP"] as const)[port % 3] ?? "TCP";

export function portImage(port: number, spec: PortSpec, taken: Set<string>): ServicePortImage {
  const protocol = protocolOf(port);
  const backends: BackendImage[] = [];
  const frontends: FrontendImage[] = [];
  for (const family of [4, 6] as const) {
    if (!spec.families.includes(family)) continue;
    const first = backends.length;
    const chosen: number[] = [];
    for (let bit = 0; bit < BACKENDS * 2; bit++) {
      if (!(spec.backends & (1 << bit))) continue;
      chosen.push(bit);
      backends.push({
        address: pod(family, bit % BACKENDS),
        port: bit < BACKENDS ? 8080 : 9090,
        local: (spec.local & (1 << bit)) !== 0,
      });
    }
    const choice = (set: number): ChoiceImage => ({
      backends: chosen.flatMap((bit, i) => (set & (1 << bit) ? [first + i] : [])),
      whenEmpty: spec.whenEmpty,
    });
    const internal = choice(spec.internal);
    const external = spec.external < 0 ? internal : choice(spec.external);
    const address = vip(family, spec.vip);
    const offers: FrontendImage[] = [{ kind: "ClusterIP", address, port: 80, internal, external }];
    if (spec.second) offers.push({ kind: "ClusterIP", address, port: 81, internal: external, external });
    for (const offer of offers) {
      const id = `${address.text} ${offer.port} ${protocol}`;
      if (!taken.has(id)) frontends.push(offer);
      taken.add(id);
    }
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
  };
}

/** Ports that did not change keep their identity, as compile() promises. */
export class ImageBuilder {
  readonly #specs: (PortSpec | null)[] = new Array(PORTS).fill(null);
  #images: ReadonlyMap<number, { readonly json: string; readonly image: ServicePortImage }> = new Map();

  set(port: number, spec: PortSpec | null): void {
    this.#specs[port] = spec;
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
    };
  }
}
