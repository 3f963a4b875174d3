// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { test } from "node:test";
import { HoldBack, type Merged } from "../../../src/dataplane/hold-back.js";
import { Reconciler } from "../../../src/dataplane/reconciler.js";
import type { Image, ServicePortImage } from "../../../src/image/types.js";
import type { Service, Snapshot } from "../../../src/model/types.js";
import { MemoryKernel } from "../../../src/native/memory.js";
import type { IpAddress } from "../../../src/net/ip.js";
import { atOnce } from "../../../src/util/slices.js";
import { cidr, ip } from "../../property/dataplane/images.js";
import { assertExactly } from "../../property/dataplane/rules.js";
import { bigPort, imageOf } from "../../support/big-image.js";

const SIZES = { backends4: 100, backends6: 100, slots4: 200, slots6: 200 };

/** As much of a snapshot as HoldBack reads: the Services of these ports. */
function naming(
  ports: readonly ServicePortImage[],
  addresses: readonly IpAddress[] = [],
): Pick<Snapshot, "services" | "node"> {
  const services = new Map<string, Service>();
  for (const { namespace, name, portName, protocol } of ports) {
    const before = services.get(`${namespace}/${name}`)?.ports ?? [];
    const spec = [...before, { name: portName, protocol, port: 80, nodePort: 0 }];
    services.set(`${namespace}/${name}`, { namespace, name, ports: spec } as unknown as Service);
  }
  return { services, node: { name: "node-a", zone: "", addresses, podCIDRs: [] } };
}

/** A kernel that an earlier agent has written, and the agent after it. */
class Restart {
  readonly kernel = new MemoryKernel({ maxEntries: SIZES });
  readonly agent = new Reconciler({ kernel: this.kernel });
  #holdBack: HoldBack | null = null;

  static async after(image: Image): Promise<Restart> {
    const restart = new Restart();
    const result = await new Reconciler({ kernel: restart.kernel }).sync(image);
    assert.deepEqual([result.failure, result.refused], [null, []]);
    restart.kernel.stats.mapWrites = 0;
    return restart;
  }

  /** A sync with manifests that lack something, of which these ports came. */
  async incomplete(
    ports: readonly ServicePortImage[],
    snapshot: Pick<Snapshot, "services" | "node"> = naming(ports),
    others: Partial<Image> = {},
  ): Promise<Merged> {
    this.#holdBack ??= new HoldBack(await this.agent.found());
    const merged = atOnce(this.#holdBack.merge({ ...imageOf(ports), ...others }, snapshot));
    const { failure, refused } = await this.agent.sync(merged.image);
    assert.deepEqual([failure, refused], [null, []]);
    return merged;
  }

  holds(...ports: readonly ServicePortImage[]): void {
    assertExactly(this.kernel, imageOf(ports));
  }
}

const longName: ServicePortImage = {
  ...bigPort(3, 2),
  key: "default/service-3:a-name-longer-than-the-map-has-room-for/UDP",
  portName: "a-name-longer-than-the-map-has-room-for",
  protocol: "UDP",
};

test("Reconciler.found() gives back what a predecessor was asked for, and writes nothing", async () => {
  const [frontend] = bigPort(2, 3).frontends;
  assert.ok(frontend);
  const both: ServicePortImage = {
    ...bigPort(2, 3),
    affinitySeconds: 10800,
    backends: bigPort(2, 3).backends.map((backend, i) => ({ ...backend, local: i === 1 })),
    frontends: [
      {
        ...frontend,
        internal: { backends: [0, 2], whenEmpty: "reject", set: "cluster" },
        external: { backends: [], whenEmpty: "drop", set: "local" },
      },
    ],
  };
  const ports = [bigPort(0, 3), bigPort(1, 3, { family: 6, chosen: [1] }), both, bigPort(4, 0)];
  const { kernel, agent } = await Restart.after(imageOf(ports));
  const found = await agent.found();
  assert.deepEqual(
    [...found.servicePorts.values()].sort((a, b) => (a.key < b.key ? -1 : 1)),
    ports,
  );
  assert.equal(kernel.stats.mapWrites, 0);
});

test("HoldBack keeps Services that incomplete manifests do not name, as they are, and publishes what they do name", async () => {
  const restart = await Restart.after(imageOf([bigPort(0, 3), bigPort(1, 2, { family: 6 }), longName]));
  const first = await restart.incomplete([]);
  assert.deepEqual([first.servicePorts, first.backends], [3, 0]);
  assert.equal(restart.kernel.stats.mapWrites, 0);
  const second = await restart.incomplete([bigPort(7, 2)]);
  assert.equal(second.servicePorts, 3);
  restart.holds(bigPort(0, 3), bigPort(1, 2, { family: 6 }), longName, bigPort(7, 2));
  // Named under its whole name, which the map does not hold.
  const third = await restart.incomplete([longName]);
  assert.equal(third.servicePorts, 2);
  restart.holds(bigPort(0, 3), bigPort(1, 2, { family: 6 }), longName);
});

test("HoldBack lets a Service go that was named once and is not any more: somebody has removed it", async () => {
  const restart = await Restart.after(imageOf([bigPort(0, 3), bigPort(1, 3)]));
  await restart.incomplete([bigPort(0, 2)]);
  const { servicePorts } = await restart.incomplete([]);
  assert.equal(servicePorts, 1);
  restart.holds(bigPort(1, 3));
});

test("HoldBack keeps backends that no slice names beside those that one does, in the choices in which they were", async () => {
  const restart = await Restart.after(imageOf([bigPort(0, 0, { pods: [1, 3, 5], chosen: [0, 2] })]));
  const { backends } = await restart.incomplete([bigPort(0, 0, { pods: [3, 4] })]);
  assert.equal(backends, 2);
  restart.holds(bigPort(0, 0, { pods: [1, 3, 4, 5], chosen: [0, 1, 2, 3] }));
  // 5 has been named, too: from then on it follows the manifests.
  await restart.incomplete([bigPort(0, 0, { pods: [4, 5] })]);
  restart.holds(bigPort(0, 0, { pods: [1, 4, 5] }));
  await restart.incomplete([bigPort(0, 0, { pods: [4] })]);
  restart.holds(bigPort(0, 0, { pods: [1, 4] }));
});

test("HoldBack does not empty a Service whose slice cannot be read", async () => {
  const restart = await Restart.after(imageOf([bigPort(0, 3, { chosen: [1] })]));
  await restart.incomplete([bigPort(0, 0)]);
  assert.equal(restart.kernel.stats.mapWrites, 0);
});

test("HoldBack leaves ports and frontends of a named Service to its object", async () => {
  const other: ServicePortImage = {
    ...bigPort(0, 2),
    key: "default/service-0:other/TCP",
    portName: "other",
    frontends: bigPort(9, 2).frontends,
  };
  const moved: ServicePortImage = { ...bigPort(0, 2), frontends: bigPort(8, 2).frontends };
  const restart = await Restart.after(imageOf([bigPort(0, 2), other]));
  await restart.incomplete([moved]);
  restart.holds(moved);
});

test("HoldBack gives up a frontend that another Service claims, or that has become an address of the node", async () => {
  const restart = await Restart.after(imageOf([bigPort(0, 2), bigPort(1, 2), bigPort(2, 2)]));
  const claiming: ServicePortImage = { ...bigPort(5, 2), frontends: bigPort(0, 2).frontends };
  const [frontend] = bigPort(1, 2).frontends;
  assert.ok(frontend);
  const { servicePorts } = await restart.incomplete([claiming], naming([claiming], [frontend.address]));
  assert.equal(servicePorts, 1);
  restart.holds(claiming, bigPort(2, 2));
});

test("HoldBack keeps the identity of ports from one merge to the next, so that they cost nothing", async () => {
  const restart = await Restart.after(imageOf([bigPort(0, 3), bigPort(1, 3)]));
  const named = bigPort(0, 2);
  const snapshot = naming([named]);
  const first = await restart.incomplete([named], snapshot);
  const second = await restart.incomplete([named], snapshot);
  for (const [key, port] of first.image.servicePorts) assert.equal(second.image.servicePorts.get(key), port);
});

test("HoldBack keeps service networks until they have been named, and addresses of the node not at all: the host tells them", async () => {
  const [a, b] = [cidr("10.96.0.0/16"), cidr("fd00:96::/112")];
  const [old, now] = [ip("172.16.0.1"), ip("172.16.0.2")];
  const before = { ...imageOf([bigPort(0, 1)]), serviceNetworks: [a, b], nodePortAddresses: [old] };
  const restart = await Restart.after(before);
  const facts = { nodePortAddresses: [now] };
  await restart.incomplete([], naming([]), { ...facts, serviceNetworks: [b] });
  assertExactly(restart.kernel, { ...before, ...facts });
  await restart.incomplete([], naming([]), facts);
  assertExactly(restart.kernel, { ...before, ...facts, serviceNetworks: [a] });
});

test("HoldBack keeps NodePorts, ranges and states, and an externalIP that is an address of the node", async () => {
  const plain = bigPort(0, 2);
  const [frontend] = plain.frontends;
  assert.ok(frontend);
  const port: ServicePortImage = {
    ...plain,
    backends: plain.backends.map((backend, i) => ({ ...backend, serving: i === 0 })),
    frontends: (["ClusterIP", "ExternalIP", "LoadBalancer", "NodePort"] as const).map((kind, i) => ({
      ...frontend,
      kind,
      address: kind === "NodePort" ? ip("0.0.0.0") : ip(`192.0.2.${i + 1}`),
      internal: { backends: [0], whenEmpty: "reject", set: "cluster" },
      external: { backends: [0], whenEmpty: "reject", set: "local" },
      sourceRanged: kind === "LoadBalancer",
    })),
    sourceRanges: [cidr("198.51.100.0/24")],
  };
  const restart = await Restart.after(imageOf([port]));
  const { servicePorts } = await restart.incomplete([], naming([], [ip("192.0.2.2")]));
  assert.equal(servicePorts, 1);
  assert.equal(restart.kernel.stats.mapWrites, 0);
  restart.holds(port);
});
