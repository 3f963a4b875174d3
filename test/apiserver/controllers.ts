// SPDX-License-Identifier: Apache-2.0
/** Real controllers make the slices: a Deployment becomes Pods, a kubelet that does not exist says that they run. */
import assert from "node:assert/strict";
import type { Follower } from "../support/apiserver/follower.js";
import type { RealApi } from "../support/apiserver/real-api.js";
import type { StoredObject } from "../support/apiserver/resources.js";
import { eventually } from "../support/cluster.js";
import { service } from "../support/manifests.js";
import type { Bench } from "./suite.js";

const LABELS = { app: "driven" };
const PODS = "/api/v1/namespaces/default/pods";
const DEPLOYMENTS = "/apis/apps/v1/namespaces/default/deployments";
/** Controllers on a small machine. */
const PATIENCE_MS = 180_000;

const deployment = (replicas: number): object => ({
  apiVersion: "apps/v1",
  kind: "Deployment",
  metadata: { name: "driven", namespace: "default" },
  spec: {
    replicas,
    selector: { matchLabels: LABELS },
    template: {
      metadata: { labels: LABELS },
      spec: {
        containers: [
          { name: "app", image: "example.invalid/app", ports: [{ name: "web", containerPort: 8080 }] },
        ],
      },
    },
  },
});

/** What kubelet writes when a Pod's containers answer. */
const running = (podIP: string): object => ({
  status: {
    phase: "Running",
    podIP,
    podIPs: [{ ip: podIP }],
    conditions: ["Initialized", "ContainersReady", "Ready", "PodScheduled"].map((type) => ({
      type,
      status: "True",
    })),
  },
});

/** Slices that a controller makes drive the follower: two Pods, then one, then none that is ready. */
export async function drivesMapsByControllers<F extends Follower>(
  backend: RealApi,
  bench: Bench<F>,
  nodeName: string,
): Promise<void> {
  const { admin } = backend;
  const pods = async (): Promise<readonly StoredObject[]> =>
    (await admin.list(`${PODS}?labelSelector=app%3Ddriven`)).items.filter(
      ({ metadata }) => metadata.deletionTimestamp === undefined,
    );
  const count = (wanted: number): Promise<readonly StoredObject[]> =>
    eventually(
      `${wanted} Pods`,
      async () => {
        const found = await pods();
        return found.length === wanted ? found : undefined;
      },
      PATIENCE_MS,
    );
  const backendsAre = (...addresses: string[]): Promise<unknown> =>
    eventually(
      `backends ${addresses}`,
      async () => {
        const row = (await bench.follower().rows()).find(({ key }) => key === "default/driven:web/TCP");
        const wanted = addresses.length === 0 ? "reject" : addresses.map((address) => `${address}:8080`);
        return JSON.stringify(row?.internal.backends) === JSON.stringify(wanted) ? true : undefined;
      },
      PATIENCE_MS,
    );
  const headers = { "content-type": "application/merge-patch+json" };

  await admin.create(
    service("driven", ["10.96.7.210"], [{ name: "web", port: 80, targetPort: "web" }], LABELS),
  );
  await admin.json("POST", DEPLOYMENTS, { body: deployment(2) });
  for (const [i, { metadata }] of (await count(2)).entries()) {
    const target = { apiVersion: "v1", kind: "Node", name: nodeName };
    const binding = { apiVersion: "v1", kind: "Binding", metadata: { name: metadata.name }, target };
    await admin.json("POST", `${PODS}/${metadata.name}/binding`, { body: binding });
    await admin.json("PATCH", `${PODS}/${metadata.name}/status`, {
      headers,
      body: running(`10.244.1.${100 + i}`),
    });
  }
  await backendsAre("10.244.1.100", "10.244.1.101");
  await bench.same("two Pods");

  const [first] = await pods();
  assert.ok(first);
  const ready = { status: { conditions: [{ type: "Ready", status: "False" }] } };
  await admin.json("PATCH", `${PODS}/${first.metadata.name}/status`, { headers, body: ready });
  const { podIP } = first.status as { readonly podIP: string };
  await backendsAre(podIP === "10.244.1.100" ? "10.244.1.101" : "10.244.1.100");

  await admin.json("PATCH", `${DEPLOYMENTS}/driven`, { headers, body: { spec: { replicas: 0 } } });
  // A Pod that is bound to a node waits for its kubelet, which is us.
  for (const { metadata } of (await admin.list(`${PODS}?labelSelector=app%3Ddriven`)).items)
    await admin.send("DELETE", `${PODS}/${metadata.name}`, { body: { gracePeriodSeconds: 0 } });
  await backendsAre();
  await bench.same("no Pods");
}
