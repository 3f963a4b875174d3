// SPDX-License-Identifier: Apache-2.0
/**
 * Fail static at start: an agent whose manifests cannot all be read must not take away what they do not name. What its
 * predecessor left is remembered as an image; as long as the manifests are incomplete, the part of it that they have not
 * named yet is added to what they ask for. What they do name follows them from then on, removal included. Decided per
 * Service: a Service object tells all its ports and frontends, so of a named Service only backends are held back, since
 * those come from other objects.
 */
import type { BackendImage, ChoiceImage, FrontendImage, Image, ServicePortImage } from "../image/types.js";
import type { Service, Snapshot } from "../model/types.js";
import { type Cidr, compareCidr } from "../net/cidr.js";
import { compareIp } from "../net/ip.js";
import type { Sliced } from "../util/slices.js";
import { storedPortName } from "./keys.js";

export interface Merged {
  readonly image: Image;
  /** Service ports, and backends of ports that the manifests name, that are there only because they are held back. */
  readonly servicePorts: number;
  readonly backends: number;
}

/** A service port found at start, without what has been named since. */
interface Held {
  readonly port: ServicePortImage;
  /** Its backends that no snapshot has named. */
  backends: readonly BackendImage[];
  /** Its Service has been named: when it is not any more, it has gone. */
  named: boolean;
  /** The last result and what it was made from: unchanged ports keep their identity. */
  made: { readonly from: ServicePortImage; readonly result: ServicePortImage } | null;
}

const STRIDE = 1024;

export class HoldBack {
  readonly #held: Map<string, Held>;
  /** Ranges of ClusterIPs that no snapshot has named. */
  #networks: readonly Cidr[];

  /** `found`: what the kernel held before this agent's first write. */
  constructor(found: Image) {
    this.#networks = found.serviceNetworks;
    this.#held = new Map(
      Array.from(found.servicePorts, ([key, port]) => [
        key,
        { port, backends: port.backends, named: false, made: null },
      ]),
    );
  }

  /** `image` of an incomplete `snapshot`, and what is held back. */
  *merge(image: Image, { services, node }: Pick<Snapshot, "services" | "node">): Sliced<Merged> {
    const servicePorts = new Map(image.servicePorts);
    const claimed = yield* claims(image);
    const ours = (frontend: FrontendImage, port: ServicePortImage): boolean =>
      !claimed.has(claimOf(frontend, port)) &&
      !(frontend.kind === "ClusterIP" && node.addresses.some(({ text }) => text === frontend.address.text));
    let ports = 0;
    let backends = 0;
    let seen = 0;
    for (const [key, held] of this.#held) {
      seen += 1;
      if (seen % STRIDE === 0) yield;
      const service = services.get(`${held.port.namespace}/${held.port.name}`);
      const wanted = service && image.servicePorts.get(keyIn(service, held.port));
      if (wanted) {
        servicePorts.set(wanted.key, withHeldBackends(held, wanted));
        backends += held.backends.length;
      } else if (!service && !held.named) {
        const port = keptPort(held, ours);
        if (port === null) continue;
        servicePorts.set(key, port);
        ports += 1;
      } else this.#held.delete(key);
    }
    const serviceNetworks = this.#withHeldNetworks(image.serviceNetworks);
    return { image: { ...image, servicePorts, serviceNetworks }, servicePorts: ports, backends };
  }

  /** They come from objects, too. The addresses of the node do not: the host has all of them. */
  #withHeldNetworks(wanted: readonly Cidr[]): readonly Cidr[] {
    const named = new Set(wanted.map(({ text }) => text));
    this.#networks = this.#networks.filter(({ text }) => !named.has(text));
    if (this.#networks.length === 0) return wanted;
    return [...wanted, ...this.#networks].sort(compareCidr);
  }
}

function claimOf({ address, port }: FrontendImage, { protocol }: ServicePortImage): string {
  return `${address.text} ${port} ${protocol}`;
}

function* claims({ servicePorts }: Image): Sliced<ReadonlySet<string>> {
  const claimed = new Set<string>();
  let seen = 0;
  for (const port of servicePorts.values()) {
    for (const frontend of port.frontends) claimed.add(claimOf(frontend, port));
    seen += 1;
    if (seen % STRIDE === 0) yield;
  }
  return claimed;
}

/** The key in the image of the port that was found; "" when the Service has no such port. */
function keyIn({ namespace, name, ports }: Service, found: ServicePortImage): string {
  const port = ports.find(
    (each) => each.protocol === found.protocol && storedPortName(each.name) === found.portName,
  );
  return port === undefined ? "" : `${namespace}/${name}:${port.name}/${port.protocol}`;
}

/** Null: everything that it was reached by belongs to others now. */
function keptPort(
  held: Held,
  ours: (frontend: FrontendImage, port: ServicePortImage) => boolean,
): ServicePortImage | null {
  const { port, made } = held;
  const frontends = port.frontends.filter((frontend) => ours(frontend, port));
  if (frontends.length === port.frontends.length) return port;
  if (frontends.length === 0) return null;
  const same = ({ result }: { readonly result: ServicePortImage }): boolean =>
    result.frontends.length === frontends.length &&
    result.frontends.every((each, i) => each === frontends[i]);
  if (made !== null && same(made)) return made.result;
  const result = { ...port, frontends };
  held.made = { from: port, result };
  return result;
}

/** `wanted` with the backends that nobody has named so far, in each choice in which they were. */
function withHeldBackends(held: Held, wanted: ServicePortImage): ServicePortImage {
  const families = new Set(wanted.frontends.map(({ address }) => address.family));
  const before = held.backends;
  held.named = true;
  held.backends = before.filter(
    (backend) => families.has(backend.address.family) && !wanted.backends.some(sameTo(backend)),
  );
  if (held.backends.length === 0) return wanted;
  if (held.made?.from === wanted && held.backends.length === before.length) return held.made.result;
  const result = mergePorts(wanted, held.port, held.backends);
  held.made = { from: wanted, result };
  return result;
}

function sameTo(a: BackendImage): (b: BackendImage) => boolean {
  return (b) => a.port === b.port && a.address.text === b.address.text;
}

function mergePorts(
  wanted: ServicePortImage,
  found: ServicePortImage,
  added: readonly BackendImage[],
): ServicePortImage {
  const backends = [...wanted.backends, ...added].sort(
    (a, b) => a.address.family - b.address.family || compareIp(a.address, b.address) || a.port - b.port,
  );
  const places = new Map(backends.map((backend, i) => [backend, i]));
  const union = (choice: ChoiceImage, old: ChoiceImage | undefined): ChoiceImage => {
    const chosen = [
      ...choice.backends.map((i) => wanted.backends[i]),
      ...(old?.backends ?? []).map((i) => found.backends[i]),
    ];
    const indexes = chosen.flatMap((backend) => (backend && places.get(backend)) ?? []);
    return { ...choice, backends: indexes.sort((a, b) => a - b) };
  };
  const frontends = wanted.frontends.map((frontend) => {
    const old = found.frontends.find(
      ({ address, port }) => address.text === frontend.address.text && port === frontend.port,
    );
    return {
      ...frontend,
      internal: union(frontend.internal, old?.internal),
      external: union(frontend.external, old?.external),
    };
  });
  return { ...wanted, backends, frontends };
}
