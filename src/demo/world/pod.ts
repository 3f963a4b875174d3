// SPDX-License-Identifier: Apache-2.0
import { createHash } from "node:crypto";
import { Host } from "./host.js";
import type { Node } from "./node.js";
import type { Flavour } from "./options.js";
import { gatewayAddress, ROUTED_GATEWAY } from "./plan.js";
import { removeNow } from "./registry.js";

/** What a pod is made from. */
export interface PodSpec {
  readonly name: string;
  readonly namespace: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly ip4: string;
  readonly ip6: string;
  readonly mtu: number;
}

/** A Pod object as far as a Service selector needs it, ready for YAML or JSON. */
export interface PodManifest {
  readonly apiVersion: "v1";
  readonly kind: "Pod";
  readonly metadata: {
    readonly name: string;
    readonly namespace: string;
    readonly labels: Readonly<Record<string, string>>;
  };
  readonly spec: { readonly nodeName: string; readonly containers: readonly { readonly name: string }[] };
  readonly status: {
    readonly phase: "Running";
    readonly podIP: string;
    readonly podIPs: readonly { readonly ip: string }[];
    readonly conditions: readonly { readonly type: "Ready"; readonly status: "True" }[];
  };
}

/** A pod: a host whose only interface, eth0, is one end of a veth pair; the other end is on its node. */
export class Pod extends Host {
  readonly node: Node;
  readonly namespace: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly ip4: string;
  readonly ip6: string;
  /** MTU of eth0 in bytes. */
  readonly mtu: number;
  /** Name of the veth's end on the node. */
  readonly hostVeth: string;

  constructor(node: Node, netns: string, flavour: Flavour, spec: PodSpec) {
    super(spec.name, netns);
    this.node = node;
    this.namespace = spec.namespace;
    this.labels = spec.labels;
    this.ip4 = spec.ip4;
    this.ip6 = spec.ip6;
    this.mtu = spec.mtu;
    const hash = createHash("sha256").update(`${node.name}/${spec.namespace}/${spec.name}`).digest("hex");
    this.hostVeth = flavour === "bridge" ? `veth${hash.slice(0, 8)}` : `cali${hash.slice(0, 11)}`;
  }

  /** The pod's object, as the API server would show it. */
  manifest(): PodManifest {
    return {
      apiVersion: "v1",
      kind: "Pod",
      metadata: { name: this.name, namespace: this.namespace, labels: this.labels },
      spec: { nodeName: this.node.name, containers: [{ name: "main" }] },
      status: {
        phase: "Running",
        podIP: this.ip4,
        podIPs: [{ ip: this.ip4 }, { ip: this.ip6 }],
        conditions: [{ type: "Ready", status: "True" }],
      },
    };
  }

  /** Removes the pod as a crash would: processes killed, interface gone when the call returns. */
  async removeNow(): Promise<void> {
    if (this.closed) return;
    this.node.forget(this);
    // The namespace itself is dismantled by the kernel in its own time; the interface shall be gone at once.
    await this.node.ip([`link del ${this.hostVeth}`]);
    removeNow([this.netns], this.pids());
    await this.endProcesses();
  }
}

/** `ip` lines to run in the pod's namespace. */
export function podLines(pod: Pod, flavour: Flavour): string[] {
  const bridge = flavour === "bridge";
  const next = bridge ? gatewayAddress(pod.node.index) : ROUTED_GATEWAY;
  return [
    "link set lo up",
    `addr add ${pod.ip4}/${bridge ? 24 : 32} dev eth0`,
    `addr add ${pod.ip6}/${bridge ? 64 : 128} dev eth0 nodad`,
    "link set eth0 up",
    ...(bridge ? [] : [`route add ${next.ip4} dev eth0 scope link`]),
    `route add default via ${next.ip4} dev eth0`,
    `route add default via ${next.ip6} dev eth0`,
  ];
}
