// SPDX-License-Identifier: Apache-2.0
/**
 * An API server that holds a made-up cluster, in a process of its own: NODE ADDRESS PORT SERVICES ENDPOINTS. Told so by
 * message, it changes slices at a steady rate, and says when each change was written (CLOCK_MONOTONIC, nanoseconds).
 */
import { FakeApi } from "../../support/apiserver/fake-api.js";
import { nthAddress } from "../../support/big-image.js";
import type { KubeObject } from "../../support/manifests.js";

/** From the benchmark. */
export interface ChangeRequest {
  readonly count: number;
  readonly perSecond: number;
}

/** To the benchmark: at first where the server is, then of each round of changes when they were written. */
export type ApiMessage =
  | { readonly kubeconfig: string }
  | { readonly sentNs: readonly string[]; readonly epoch: number };

/** Annotations of the changes of one round begin at a time of their own, a millisecond apart: their numbers. */
export const TRIGGER = "endpoints.kubernetes.io/last-change-trigger-time";

const PODS_PER_SERVICE = 64;
const [nodeName = "", address = "", port = "", services = "", endpoints = ""] = process.argv.slice(2);
const namespaceOf = (i: number): string => `team-${i % 100}`;

function service(i: number): KubeObject {
  const clusterIP = nthAddress(4, 11, i).text;
  return {
    apiVersion: "v1",
    kind: "Service",
    metadata: { name: `service-${i}`, namespace: namespaceOf(i), labels: { app: `app-${i}` } },
    ...{
      spec: {
        type: "ClusterIP",
        clusterIP,
        clusterIPs: [clusterIP],
        ipFamilies: ["IPv4"],
        selector: { app: `app-${i}` },
        ports: [{ name: "http", protocol: "TCP", port: 80, targetPort: 8080 }],
      },
    },
  } as KubeObject;
}

function slice(i: number, pods: readonly number[], trigger: string): KubeObject {
  return {
    apiVersion: "discovery.k8s.io/v1",
    kind: "EndpointSlice",
    metadata: {
      name: `service-${i}-abcde`,
      namespace: namespaceOf(i),
      labels: { "kubernetes.io/service-name": `service-${i}` },
      ...{ annotations: { [TRIGGER]: trigger } },
    },
    ...{
      addressType: "IPv4",
      ports: [{ name: "http", protocol: "TCP", port: 8080 }],
      endpoints: pods.map((pod) => ({
        addresses: [nthAddress(4, 10, i * PODS_PER_SERVICE + pod).text],
        conditions: { ready: true, serving: true, terminating: false },
        nodeName: `node-${(i + pod) % 50}`,
        zone: `zone-${pod % 3}`,
        targetRef: { kind: "Pod", name: `app-${i}-${pod}`, namespace: namespaceOf(i), uid: `${i}-${pod}` },
      })),
    },
  } as KubeObject;
}

const many = Number(services);
const pods = Array.from({ length: Number(endpoints) }, (_, pod) => pod);
const api = await FakeApi.start({ port: Number(port) });
api.create({
  apiVersion: "v1",
  kind: "Node",
  metadata: { name: nodeName },
  ...{ status: { addresses: [{ type: "InternalIP", address }] } },
} as KubeObject);
for (let i = 0; i < many; i += 1) {
  api.create(service(i));
  api.create(slice(i, pods, "2026-01-31T09:00:00Z"));
}

/** One endpoint of one Service goes, or is back: as in a rolling update. */
function change(number: number, trigger: string): void {
  const i = (number * 7919) % many;
  const odd = Math.floor(number / many) % 2 === 0;
  api.update(slice(i, odd ? pods.slice(1) : pods, trigger));
}

/** Over all rounds: no slice is ever written as it is. */
let next = 0;

async function round({ count, perSecond }: ChangeRequest): Promise<ApiMessage> {
  const epoch = Date.now();
  const sentNs: string[] = [];
  const started = performance.now();
  while (sentNs.length < count) {
    const due = Math.min(count, Math.floor(((performance.now() - started) / 1000) * perSecond));
    while (sentNs.length < due) {
      const trigger = new Date(epoch + sentNs.length).toISOString();
      sentNs.push(String(process.hrtime.bigint()));
      change(next, trigger);
      next += 1;
    }
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
  return { sentNs, epoch };
}

const send = (message: ApiMessage): void => void process.send?.(message);
process.on("message", (request: ChangeRequest) => void round(request).then(send));
process.on("disconnect", () => void api.close().then(() => process.exit(0)));
send({ kubeconfig: api.kubeconfig({ tokenFile: true }) });
