// SPDX-License-Identifier: Apache-2.0
/** What is published, counted when somebody asks: the image that the kernel holds. */
import { Gauge, type Registry } from "prom-client";
import type { Image, ServicePortImage } from "../../image/types.js";
import type { Family } from "../../net/ip.js";
import { FAMILY_LABELS } from "./family-label.js";

export interface ImageCounts {
  readonly servicePorts: number;
  readonly frontends: Readonly<Record<Family, number>>;
  readonly backends: Readonly<Record<Family, number>>;
  /** 7.9: service ports whose traffic of this policy is dropped, since their only endpoints are elsewhere. */
  readonly noLocalEndpoints: Readonly<
    Record<Family, { readonly internal: number; readonly external: number }>
  >;
}

export interface ImageMetricsOptions {
  readonly registry: Registry;
  readonly families: readonly Family[];
}

export class ImageMetrics {
  readonly #heldBackPorts: Gauge;
  readonly #heldBackBackends: Gauge;
  #image: Image | null = null;
  #counted: { readonly image: Image; readonly counts: ImageCounts } | null = null;

  constructor({ registry, families }: ImageMetricsOptions) {
    const registers = [registry];
    const each = (set: (counts: ImageCounts, family: Family, ip_family: string) => void): void => {
      const counts = this.counts;
      for (const family of families) set(counts, family, FAMILY_LABELS[family]);
    };
    new Gauge({
      name: "kubeproxy_sync_proxy_rules_no_local_endpoints_total",
      help: "Service ports whose traffic policy is Local and that have endpoints on other nodes only",
      labelNames: ["ip_family", "traffic_policy"],
      registers,
      collect() {
        each(({ noLocalEndpoints }, family, ip_family) => {
          for (const traffic_policy of ["internal", "external"] as const)
            this.set({ ip_family, traffic_policy }, noLocalEndpoints[family][traffic_policy]);
        });
      },
    });
    const countsNow = (): ImageCounts => this.counts;
    new Gauge({
      name: "portolan_service_ports",
      help: "Service ports that are published",
      registers,
      collect() {
        this.set(countsNow().servicePorts);
      },
    });
    new Gauge({
      name: "portolan_frontends",
      help: "Addresses with a port that are published; a NodePort counts once, whatever the node's addresses",
      labelNames: ["ip_family"],
      registers,
      collect() {
        each(({ frontends }, family, ip_family) => this.set({ ip_family }, frontends[family]));
      },
    });
    new Gauge({
      name: "portolan_backends",
      help: "Endpoints of all service ports together",
      labelNames: ["ip_family"],
      registers,
      collect() {
        each(({ backends }, family, ip_family) => this.set({ ip_family }, backends[family]));
      },
    });
    this.#heldBackPorts = new Gauge({
      name: "portolan_held_back_service_ports",
      help: "Service ports that stay though the source, which has not been whole yet, does not name them",
      registers,
    });
    this.#heldBackBackends = new Gauge({
      name: "portolan_held_back_backends",
      help: "Backends that stay though the source, which has not been whole yet, does not name them",
      registers,
    });
  }

  /** The kernel holds this image. Costs nothing until somebody asks. */
  set(image: Image): void {
    this.#image = image;
  }

  setHeldBack(held: { readonly servicePorts: number; readonly backends: number } | null): void {
    this.#heldBackPorts.set(held?.servicePorts ?? 0);
    this.#heldBackBackends.set(held?.backends ?? 0);
  }

  get counts(): ImageCounts {
    const image = this.#image;
    if (image === null) return NOTHING;
    if (this.#counted?.image !== image) this.#counted = { image, counts: countImage(image) };
    return this.#counted.counts;
  }
}

const NOTHING: ImageCounts = {
  servicePorts: 0,
  frontends: { 4: 0, 6: 0 },
  backends: { 4: 0, 6: 0 },
  noLocalEndpoints: { 4: { internal: 0, external: 0 }, 6: { internal: 0, external: 0 } },
};

export function countImage({ servicePorts }: Image): ImageCounts {
  const frontends = { 4: 0, 6: 0 };
  const backends = { 4: 0, 6: 0 };
  const noLocalEndpoints = { 4: { internal: 0, external: 0 }, 6: { internal: 0, external: 0 } };
  for (const port of servicePorts.values()) {
    for (const { address } of port.backends) backends[address.family] += 1;
    for (const { address } of port.frontends) frontends[address.family] += 1;
    for (const family of [4, 6] as const) {
      const { internal, external } = lacksLocalEndpoints(port, family);
      noLocalEndpoints[family].internal += Number(internal);
      noLocalEndpoints[family].external += Number(external);
    }
  }
  return { servicePorts: servicePorts.size, frontends, backends, noLocalEndpoints };
}

/** 7.2 and 7.3: dropped, not rejected, is what tells an endpoint elsewhere from no endpoint at all. */
function lacksLocalEndpoints(
  { frontends }: ServicePortImage,
  family: Family,
): { readonly internal: boolean; readonly external: boolean } {
  let internal = false;
  let external = false;
  for (const frontend of frontends) {
    if (frontend.address.family !== family) continue;
    const choice = frontend.kind === "ClusterIP" ? frontend.internal : frontend.external;
    if (choice.set !== "local" || choice.whenEmpty !== "drop" || choice.backends.length > 0) continue;
    if (frontend.kind === "ClusterIP") internal = true;
    else external = true;
  }
  return { internal, external };
}
