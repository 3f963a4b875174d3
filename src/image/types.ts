// SPDX-License-Identifier: Apache-2.0
/**
 * The image: what this node's maps must hold, without any index, cell or generation. It depends on the snapshot alone,
 * never on history; `dataplane` gives it cells and slots. Frozen; a service port that did not change between two compiles
 * keeps its identity (===), which is how the rest knows that there is nothing to do.
 */

import type { Problem } from "../model/types.js";
import type { IpAddress, Protocol } from "../net/ip.js";

export interface BackendImage {
  readonly address: IpAddress;
  readonly port: number;
  /** On this node (3.3). */
  readonly local: boolean;
}

/** What one scope of senders is offered. */
export interface ChoiceImage {
  /** Indexes into ServicePortImage.backends, ascending, of the frontend's family. */
  readonly backends: readonly number[];
  /** What a new flow meets when `backends` is empty (section 7). */
  readonly whenEmpty: "reject" | "drop";
}

export type FrontendKind = "ClusterIP" | "ExternalIP" | "LoadBalancer" | "NodePort";

export interface FrontendImage {
  readonly kind: FrontendKind;
  readonly address: IpAddress;
  readonly port: number;
  readonly internal: ChoiceImage;
  readonly external: ChoiceImage;
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
   * Every endpoint that still serves (ready, or terminating and serving), chosen or not: a UDP flow stays with its
   * backend as long as that serves (9.3, 9.6, 9.7). Sorted by family, address bytes, port; no duplicates (3.4).
   */
  readonly backends: readonly BackendImage[];
  readonly frontends: readonly FrontendImage[];
  readonly affinitySeconds: number;
}

export interface Image {
  readonly servicePorts: ReadonlyMap<string, ServicePortImage>;
  readonly problems: readonly Problem[];
}
