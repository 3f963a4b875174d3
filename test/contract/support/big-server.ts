// SPDX-License-Identifier: Apache-2.0
/** A process with an API server that holds many objects: SERVICES ENDPOINTS MODE. Prints the kubeconfig's path; ends with stdin. */
import { FakeApi } from "../../support/apiserver/fake-api.js";
import { nodeObject, numbered, sliceOf } from "./rig.js";

const [services = "1000", endpoints = "10", mode = "streaming"] = process.argv.slice(2);
const api = await FakeApi.start({ streamingLists: mode === "streaming" ? "on" : 422 });
api.create(nodeObject());
for (let i = 0; i < Number(services); i += 1) {
  api.create(numbered(i));
  api.create(named(i));
}

/** As a cluster has them: each endpoint with a node, a zone hint and a reference to its Pod. */
function named(i: number): ReturnType<typeof sliceOf> {
  const slice = sliceOf(i, Number(endpoints), "2026-01-31T09:00:00Z") as ReturnType<typeof sliceOf> & {
    endpoints: object[];
  };
  const full = slice.endpoints.map((endpoint, n) => ({
    ...endpoint,
    nodeName: `node-${(i + n) % 100}`,
    zone: `zone-${n % 3}`,
    targetRef: { kind: "Pod", name: `web-${i}-${n}`, namespace: "default", uid: `${i}-${n}` },
    hints: { forZones: [{ name: `zone-${n % 3}` }] },
  }));
  return { ...slice, endpoints: full } as ReturnType<typeof sliceOf>;
}

process.stdin.on("data", (text) => {
  // "change N": so many Services' slices change now.
  const changes = Number(/change (\d+)/.exec(String(text))?.[1] ?? 0);
  for (let i = 0; i < changes; i += 1)
    api.update({ ...named(i), ports: [{ name: "http", port: 9090 }] } as never);
  if (/break/.test(String(text))) {
    api.compact();
    api.failWatches(410);
  }
});
process.stdin.on("end", () => void api.close().then(() => process.exit(0)));
console.log(api.kubeconfig({ tokenFile: true }));
