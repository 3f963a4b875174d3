// SPDX-License-Identifier: Apache-2.0
/**
 * The image: what this node's maps must hold, without any index, cell or generation. It depends on the snapshot alone,
 * never on history; `dataplane` gives it cells and slots. Frozen; a service port that did not change between two compiles
 * keeps its identity (===), which is how the rest knows that there is nothing to do.
 */

import type { Masquerade } from "../model/masquerade.js";
import type { Problem } from "../model/types.js";
import type { Cidr } from "../net/cidr.js";
import type { IpAddress, Protocol } from "../net/ip.js";

export interface BackendImage {
  readonly address: IpAddress;
  readonly port: number;
  /** On this node (3.3). */
  readonly local: boolean;
  /**
   * It serves (9.3): its UDP flows stay with it. One that is still in a slice and does not serve is in no set; it is kept
   * so that its TCP flows can be told from those of an endpoint that has left every slice.
   */
  readonly serving: boolean;
  /** In the Cluster set, in the Local set (4.5, 4.7). Of service ports with session affinity; false for all others (5.3). */
  readonly clusterSet: boolean;
  readonly localSet: boolean;
}

/** What one scope of senders is offered. */
export interface ChoiceImage {
  /** Indexes into ServicePortImage.backends, ascending, of the frontend's family. */
  readonly backends: readonly number[];
  /** What a new flow meets when `backends` is empty (section 7). */
  readonly whenEmpty: "reject" | "drop";
  /** Which of section 4's sets this is. */
  readonly set: "cluster" | "local";
}

export type FrontendKind = "ClusterIP" | "ExternalIP" | "LoadBalancer" | "NodePort";

export interface FrontendImage {
  readonly kind: FrontendKind;
  /** Of a NodePort the family's all-zero address: it stands for every address in Image.nodePortAddresses. */
  readonly address: IpAddress;
  readonly port: number;
  /** For local pods and this node's own processes: short-circuited where the traffic is external (4.12). */
  readonly internal: ChoiceImage;
  readonly external: ChoiceImage;
  /** Which new flows get an address of the node (8.2, 8.4, 8.5); hairpin always does (8.7). "outsiders": no local pods. */
  readonly masquerade: Masquerade;
  /** New flows must come from ServicePortImage.sourceRanges (6.15, 6.19). */
  readonly sourceRanged: boolean;
}

/** A service port: the identity of rule 2.4, in both families. */
export interface ServicePortImage {
  /** "namespace/name:portName/PROTOCOL" (portName may be empty). */
  readonly key: string;
  readonly namespace: string;
  readonly name: string;
  readonly portName: string;
  readonly protocol: Protocol;
  /**
   * Every endpoint, chosen or not: a UDP flow stays with its backend as long as that serves (9.3, 9.6, 9.7). Sorted by
   * family, address bytes, port; no duplicates (3.4).
   */
  readonly backends: readonly BackendImage[];
  readonly frontends: readonly FrontendImage[];
  readonly affinitySeconds: number;
  /** Who may use its load balancer addresses, per family (2.13), with those addresses themselves where 6.17 says so. */
  readonly sourceRanges: readonly Cidr[];
}

export interface Image {
  readonly servicePorts: ReadonlyMap<string, ServicePortImage>;
  readonly problems: readonly Problem[];
  /** Local addresses on which NodePorts are served (6.1 to 6.4), sorted. */
  readonly nodePortAddresses: readonly IpAddress[];
  /** Where ClusterIPs come from: an address in here that no Service has gets no answer (6.13). Sorted. */
  readonly serviceNetworks: readonly Cidr[];
}
