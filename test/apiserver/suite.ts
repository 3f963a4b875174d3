// SPDX-License-Identifier: Apache-2.0
/**
 * What whoever follows an API server must get right, whichever server it is. The judge is always the same: what the follower
 * has is what a fresh compile of the server's state gives.
 */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import type { ApiBackend, BackendChoice } from "../support/apiserver/backend.js";
import { type Follower, freshRows, type Row } from "../support/apiserver/follower.js";
import { Gate } from "../support/apiserver/gate.js";
import { eventually } from "../support/cluster.js";
import { endpointSlice, type KubeObject, service } from "../support/manifests.js";

const PROXY_NAME = "service.kubernetes.io/service-proxy-name";
const HEADLESS = "service.kubernetes.io/headless";
const PORTS = [{ name: "http", port: 80 }];
const BACKEND_PORTS = [{ name: "http", port: 8080, protocol: "TCP" as const }];
const ZONE = "topology.kubernetes.io/zone";
/** Longer than a few steps of a client's back-off on a busy machine. */
const PATIENCE_MS = 180_000;

/** Makes what is to be tested. The Node is there already. */
export type StartFollower<F extends Follower> = (backend: ApiBackend, gate: Gate) => Promise<F>;

/** A running suite, for tests beside it. */
export interface Bench<F extends Follower> {
  readonly backend: () => ApiBackend;
  readonly follower: () => F;
  readonly gate: () => Gate;
  readonly same: (what: string) => Promise<readonly Row[]>;
}

export const web = (name: string, last: number): KubeObject => service(name, [`10.96.7.${last}`], PORTS);
export const slice = (name: string, ...addresses: string[]): KubeObject =>
  endpointSlice(name, addresses, BACKEND_PORTS);

const of = (rows: readonly Row[], name: string): Row | undefined =>
  rows.find(({ key }) => key === `default/${name}:http/TCP`);
const backendsOf = (rows: readonly Row[], name: string): Row["internal"]["backends"] | undefined =>
  of(rows, name)?.internal.backends;

/** A Node as kubelet registers one. */
function nodeObject(name: string, address: string): KubeObject {
  return {
    apiVersion: "v1",
    kind: "Node",
    metadata: { name, labels: { "kubernetes.io/hostname": name, [ZONE]: "zone-a" } },
    ...{ status: { addresses: [{ type: "InternalIP", address }] } },
  };
}

/** Defines the tests. `what` begins their titles. */
export function suite<F extends Follower>(
  what: string,
  choice: BackendChoice,
  node: { readonly name: string; readonly address: string },
  start: StartFollower<F>,
): Bench<F> {
  let backend!: ApiBackend;
  let gate!: Gate;
  let follower!: F;
  const title = (text: string): string => `${what}, against ${choice.name}, ${text}`;

  const close = async (): Promise<void> => {
    await follower?.close();
    await gate?.close();
    await backend?.close();
  };
  before(async () => {
    try {
      backend = await choice.start();
      gate = new Gate(backend, `${backend.directory}/gate`);
      await gate.open();
      const object = nodeObject(node.name, node.address);
      await backend.admin.create(object);
      const { status } = object as unknown as { readonly status: object };
      await backend.admin.mergePatch(object, { status }, "status");
      follower = await start(backend, gate);
    } catch (error) {
      await close(); // `after` is not called when this fails
      throw error;
    }
  });
  after(close);

  const same = async (text: string): Promise<readonly Row[]> => {
    const expected = await freshRows(backend.admin, node.name);
    let last: readonly Row[] = [];
    try {
      return await eventually(
        text,
        async () => {
          last = await follower.rows();
          return JSON.stringify(last) === JSON.stringify(expected) ? last : undefined;
        },
        PATIENCE_MS,
      );
    } catch (error) {
      assert.deepEqual(last, expected, text);
      throw error;
    }
  };

  test(title("sees Services and their slices (1.1)"), async () => {
    const { admin } = backend;
    await admin.create(web("one", 1));
    await admin.create(slice("one", "10.244.1.9", "10.244.2.9"));
    const rows = await same("the Service is there");
    assert.deepEqual(backendsOf(rows, "one"), ["10.244.1.9:8080", "10.244.2.9:8080"]);
  });

  test(title("leaves out headless Services and keeps those without endpoints as rejecting"), async () => {
    await backend.admin.create(service("headless", ["None"], PORTS));
    await backend.admin.create(web("empty", 2));
    const rows = await same("both are there");
    assert.deepEqual([of(rows, "headless"), backendsOf(rows, "empty")], [undefined, "reject"]);
  });

  test(title("follows changes of slices and of ports"), async () => {
    const { admin } = backend;
    await admin.mergePatch(slice("one"), {
      endpoints: [
        { addresses: ["10.244.3.9"], conditions: { ready: true } },
        { addresses: ["10.244.1.9"], conditions: { ready: false } },
      ],
    });
    assert.deepEqual(backendsOf(await same("the slice changed"), "one"), ["10.244.3.9:8080"]);
    await admin.mergePatch(web("one", 1), { spec: { ports: [{ name: "http", port: 81, protocol: "TCP" }] } });
    assert.equal(of(await same("the port changed"), "one")?.address, "10.96.7.1:81");
  });

  test(
    title("takes the proxy-name label, even empty, for a deletion, and its removal for a new Service (1.2)"),
    async () => {
      const { admin } = backend;
      await admin.mergePatch(web("one", 1), { metadata: { labels: { [PROXY_NAME]: "" } } });
      assert.equal(of(await same("the label is there"), "one"), undefined);
      await admin.mergePatch(web("one", 1), { metadata: { labels: { [PROXY_NAME]: null } } });
      assert.deepEqual(backendsOf(await same("the label is gone"), "one"), ["10.244.3.9:8080"]);
    },
  );

  test(
    title("rejects for a Service whose slice has the headless label, until it has not (1.3)"),
    async () => {
      const { admin } = backend;
      await admin.mergePatch(slice("one"), { metadata: { labels: { [HEADLESS]: "" } } });
      assert.equal(backendsOf(await same("the label is there"), "one"), "reject");
      await admin.mergePatch(slice("one"), { metadata: { labels: { [HEADLESS]: null } } });
      assert.deepEqual(backendsOf(await same("the label is gone"), "one"), ["10.244.3.9:8080"]);
    },
  );

  test(title("follows its own Node's zone, and no other Node's (1.5, 1.17)"), async () => {
    const { admin } = backend;
    const hinted = (address: string, zone: string): object => ({
      addresses: [address],
      conditions: { ready: true },
      hints: { forZones: [{ name: zone }] },
    });
    await admin.create(web("zoned", 3));
    const zoned = {
      ...slice("zoned"),
      endpoints: [hinted("10.244.1.1", "zone-a"), hinted("10.244.2.1", "zone-b")],
    };
    await admin.create(zoned as KubeObject);
    assert.deepEqual(backendsOf(await same("zone-a"), "zoned"), ["10.244.1.1:8080"]);
    await admin.create(nodeObject("another", "192.0.2.99"));
    await admin.mergePatch(nodeObject("another", ""), { metadata: { labels: { [ZONE]: "zone-b" } } });
    await admin.mergePatch(nodeObject(node.name, ""), { metadata: { labels: { [ZONE]: "zone-b" } } });
    assert.deepEqual(backendsOf(await same("zone-b"), "zoned"), ["10.244.2.1:8080"]);
  });

  test(
    title("takes a Service that was deleted and made again for another one, with its own address"),
    async () => {
      const { admin } = backend;
      const first = await admin.get(web("one", 1));
      await admin.delete(web("one", 1));
      const second = await admin.create(web("one", 11));
      assert.notEqual(first.metadata.uid, second.metadata.uid);
      assert.equal(of(await same("the new one is there"), "one")?.address, "10.96.7.11:80");
    },
  );

  test(
    title("loses nothing that happened while the way to the server was cut: a deletion, a new uid, a change"),
    async () => {
      const { admin } = backend;
      for (const [name, last] of [
        ["gone", 21],
        ["again", 22],
        ["changed", 23],
      ] as const) {
        await admin.create(web(name, last));
        await admin.create(slice(name, "10.244.1.9"));
      }
      await same("all three are there");
      gate.cut();
      await admin.delete(web("gone", 21));
      await admin.delete(slice("gone"));
      await admin.delete(web("again", 22));
      await admin.create(web("again", 32));
      await admin.mergePatch(slice("changed"), {
        endpoints: [{ addresses: ["10.244.9.9"], conditions: {} }],
      });
      await admin.create(web("fresh", 24));
      assert.ok(of(await follower.rows(), "gone"), "what was known stays in force while the server is away");
      await gate.open();
      const rows = await same("it has caught up");
      assert.deepEqual(
        ["gone", "again", "changed", "fresh"].map((name) => of(rows, name)?.address),
        [undefined, "10.96.7.32:80", "10.96.7.23:80", "10.96.7.24:80"],
      );
    },
  );

  test(title("loses nothing when what it would resume from is compacted away (410)"), async () => {
    const { admin } = backend;
    await same("before");
    gate.cut();
    await admin.delete(web("fresh", 24));
    await admin.create(web("later", 25));
    for (let i = 0; i < 20; i++)
      await admin.mergePatch(web("changed", 23), { metadata: { annotations: { count: `${i}` } } });
    await backend.compact();
    await gate.open();
    const rows = await same("it has listed again");
    assert.deepEqual([of(rows, "fresh"), of(rows, "later")?.address], [undefined, "10.96.7.25:80"]);
  });

  test(title("loses nothing that a watch which had fallen silent did not tell"), async () => {
    const { admin } = backend;
    gate.stall();
    await admin.delete(web("later", 25));
    await admin.mergePatch(slice("changed"), { endpoints: [{ addresses: ["10.244.8.8"], conditions: {} }] });
    assert.ok(of(await follower.rows(), "later"), "nothing passes a watch that is stuck");
    gate.cut();
    await gate.open();
    const rows = await same("it watches again");
    assert.deepEqual([of(rows, "later"), backendsOf(rows, "changed")], [undefined, ["10.244.8.8:8080"]]);
  });

  test(title("ends equal after 150 changes at once, with the way cut in between"), async () => {
    const { admin } = backend;
    const numbers = Array.from({ length: 50 }, (_, i) => i);
    const name = (i: number): string => `burst-${i}`;
    await Promise.all(numbers.map((i) => admin.create(web(name(i), 100 + i))));
    const slices = Promise.all(numbers.map((i) => admin.create(slice(name(i), `10.244.4.${i + 1}`))));
    gate.cut();
    await gate.open();
    await slices;
    await Promise.all(numbers.filter((i) => i % 3 === 0).map((i) => admin.delete(web(name(i), 100 + i))));
    await Promise.all(
      numbers.filter((i) => i % 3 === 1).map((i) => admin.mergePatch(slice(name(i)), { endpoints: [] })),
    );
    const rows = await same("all of it is there");
    assert.equal(rows.filter(({ key }) => key.startsWith("default/burst-")).length, 33);
    follower.check();
  });

  return { backend: () => backend, follower: () => follower, gate: () => gate, same };
}
