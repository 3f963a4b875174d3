// SPDX-License-Identifier: Apache-2.0
// From the source's Snapshot to the transaction, work is proportional to the change: what is read, walked and written of all
// Maps is counted, and is the same among any number of Services.
import assert from "node:assert/strict";
import { test } from "node:test";
import { StaleSockets } from "../../../src/daemon/stale-sockets.js";
import { Reconciler } from "../../../src/dataplane/reconciler.js";
import { BackendCount } from "../../../src/image/backend-count.js";
import { compile, createCompiler } from "../../../src/image/compile.js";
import { type HealthCheck, HealthCheckList, healthChecks } from "../../../src/image/health-checks.js";
import type { EndpointSlice, Service } from "../../../src/model/types.js";
import { MemoryKernel } from "../../../src/native/memory.js";
import { SnapshotBuilder } from "../../../src/source/kube/snapshot-builder.js";
import { silentLogger } from "../../../src/util/log.js";
import { endpoint, ip, NODE, service, slice } from "../../fixtures/objects.js";
import { nthAddress } from "../../support/big-image.js";

interface Counts {
  /** Map.get(), has(). */
  reads: number;
  /** Steps of iterators of Maps and Sets. */
  steps: number;
  /** Map.set(), delete(): copying a Map counts each entry twice, as a step and as a write. */
  writes: number;
}

type Method = (this: unknown, ...args: unknown[]) => unknown;

/** Runs `work` with every Map and Set counted. */
async function counted(work: () => Promise<void>): Promise<Counts> {
  const counts: Counts = { reads: 0, steps: 0, writes: 0 };
  const undo: (() => void)[] = [];
  const count = (prototype: object, name: string, kind: keyof Counts): void => {
    const methods = prototype as Record<string, Method>;
    const method = methods[name] as Method;
    methods[name] = function (...args) {
      counts[kind] += 1;
      return method.apply(this, args);
    };
    undo.push(() => {
      methods[name] = method;
    });
  };
  for (const name of ["get", "has"]) count(Map.prototype, name, "reads");
  for (const name of ["set", "delete"]) count(Map.prototype, name, "writes");
  for (const one of [new Map(), new Set()])
    count(Object.getPrototypeOf(one[Symbol.iterator]()) as object, "next", "steps");
  try {
    await work();
  } finally {
    for (const each of undo) each();
  }
  return counts;
}

const serviceOf = (i: number): Service =>
  service(`service-${i}`, {
    clusterIPs: [nthAddress(4, 11, i)],
    ...(i % 10 === 1 && {
      type: "LoadBalancer",
      externalTrafficPolicyLocal: true,
      healthCheckNodePort: 30_000 + i,
    }),
    // Two that want the same address: there is a problem to tell, whatever changes.
    ...(i % 10 === 2 && { clusterIPs: [ip("11.255.0.1")] }),
  });

const sliceOf = (i: number, pods: readonly number[]): EndpointSlice =>
  slice(
    `service-${i}`,
    pods.map((pod) => endpoint(nthAddress(4, 10, 16 * i + pod).text)),
  );

/** A node of so many Services with three endpoints each, and what it does with each new Snapshot. */
class Agent {
  readonly builder = new SnapshotBuilder(NODE, []);
  readonly kernel = new MemoryKernel();
  readonly #compiler = createCompiler();
  readonly #reconciler = new Reconciler({ kernel: this.kernel });
  readonly #backends = new BackendCount();
  readonly #checks = new HealthCheckList();
  readonly #stale = new StaleSockets({
    maps: this.kernel,
    destroy: () => ({ destroyed: 0, unsupported: false }),
    log: silentLogger,
  });
  readonly #slices = new Map<number, EndpointSlice>();
  backends = 0;
  problems = 0;

  setService(i: number, value: Service | null): void {
    this.builder.setService(`default/service-${i}`, value);
  }

  setSlice(i: number, pods: readonly number[]): void {
    const now = sliceOf(i, pods);
    this.builder.setSlice(this.#slices.get(i) ?? null, now);
    this.#slices.set(i, now);
  }

  async sync(): Promise<void> {
    const snapshot = this.builder.build();
    const image = this.#compiler.compile(snapshot);
    const { failure, refused } = await this.#reconciler.sync(image);
    assert.deepEqual([failure, refused], [null, []]);
    this.backends = this.#backends.of(image.servicePorts);
    this.problems = image.problems.length;
    this.#checks.of(snapshot);
    await this.#stale.committed(image);
  }

  static async of(services: number): Promise<Agent> {
    const agent = new Agent();
    for (let i = 0; i < services; i += 1) {
      agent.setService(i, serviceOf(i));
      agent.setSlice(i, [0, 1, 2]);
    }
    await agent.sync();
    return agent;
  }
}

const CHANGES: Readonly<Record<string, (agent: Agent) => void>> = {
  "an endpoint goes": (agent) => agent.setSlice(5, [1, 2]),
  "endpoints of three Services come": (agent) => {
    for (const i of [3, 4, 6]) agent.setSlice(i, [0, 1, 2, 3]);
  },
  "a Service gets a port": (agent) =>
    agent.setService(
      7,
      service("service-7", {
        clusterIPs: [nthAddress(4, 11, 7)],
        ports: [80, 81].map((port) => ({ name: `p${port}`, protocol: "TCP", port, nodePort: 0 })),
      }),
    ),
  "a Service comes": (agent) =>
    agent.setService(-1, service("service-new", { clusterIPs: [ip("10.96.7.7")] })),
  "a Service goes": (agent) => agent.setService(8, null),
};

for (const [what, change] of Object.entries(CHANGES)) {
  test(`${what}: the same work with 20 Services and with 2,000`, async () => {
    const [few, many] = [await Agent.of(20), await Agent.of(2000)];
    assert.ok(few.problems > 0 && few.problems < many.problems);
    const costs: Counts[] = [];
    for (const agent of [few, many]) {
      // Once for what is only done at the first change.
      agent.setSlice(9, [0, 1]);
      await agent.sync();
      const before = agent.kernel.stats.ffiCalls;
      change(agent);
      costs.push(await counted(() => agent.sync()));
      assert.equal(agent.kernel.stats.ffiCalls - before, 1);
    }
    assert.deepEqual(costs[1], costs[0]);
    assert.ok((costs[0]?.writes ?? 0) > 0, "it does count");
  });
}

test("BackendCount and HealthCheckList say after any changes what they say from nothing", async () => {
  const agent = await Agent.of(20);
  const list = new HealthCheckList();
  const seen = new Set<unknown>();
  for (const change of Object.values(CHANGES)) {
    change(agent);
    await agent.sync();
    const snapshot = agent.builder.build();
    assert.equal(agent.backends, new BackendCount().of(compile(snapshot).servicePorts));
    const byName = (a: HealthCheck, b: HealthCheck): number => (a.name < b.name ? -1 : 1);
    assert.deepEqual([...list.of(snapshot)].sort(byName), [...healthChecks(snapshot)].sort(byName));
    assert.equal(list.of(snapshot), list.of(snapshot));
    seen.add(list.of(snapshot));
  }
  agent.setService(11, null);
  assert.equal(list.of(agent.builder.build()).length, 1, "of Services 1 and 11");
  assert.equal(seen.size, 1, "nothing changed before: the same list");
});
