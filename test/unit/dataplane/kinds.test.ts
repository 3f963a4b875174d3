// SPDX-License-Identifier: Apache-2.0
/** What a service port can have beside a ClusterIP, and a node beside service ports: exact writes, restart, repair, refusal. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { AddressClass, BackendFlag, BackendState, FrontendFlag } from "../../../src/abi/enums.gen.js";
import { FAMILY_CODECS, frontendCodec } from "../../../src/abi/layout.gen.js";
import type { MapName } from "../../../src/abi/maps.gen.js";
import { Reconciler, type SyncResult } from "../../../src/dataplane/reconciler.js";
import type { BackendImage, FrontendImage, Image, ServicePortImage } from "../../../src/image/types.js";
import { type EntryWrite, MemoryKernel } from "../../../src/native/memory.js";
import type { Family } from "../../../src/net/ip.js";
import { silentLogger } from "../../../src/util/log.js";
import { cidr, ip } from "../../property/dataplane/images.js";
import { assertExactly, cellAt, RuleWatcher } from "../../property/dataplane/rules.js";
import { bigPort, imageOf, nthAddress } from "../../support/big-image.js";

const u32 = (value: number): Uint8Array => new Uint8Array(Uint32Array.of(value).buffer);
const SMALL = { backends4: 100, backends6: 100, slots4: 200, slots6: 200 };
const FAMILIES: readonly Family[] = [4, 6];
const DUMPS = 13;

class Rig {
  readonly kernel: MemoryKernel;
  readonly written: { map: MapName; kind: string; text: string }[] = [];
  now = 0;
  reconciler: Reconciler;

  constructor(maxEntries: Readonly<Partial<Record<MapName, number>>> = {}) {
    this.kernel = new MemoryKernel({ maxEntries: { ...SMALL, ...maxEntries } });
    this.reconciler = this.agent();
  }

  agent(): Reconciler {
    return new Reconciler({ kernel: this.kernel, clock: { now: () => this.now } });
  }

  async sync(image: Image): Promise<SyncResult> {
    this.written.length = 0;
    this.kernel.afterWrite = ({ map, kind, key }: EntryWrite) =>
      this.written.push({ map, kind, text: `${kind} ${map} ${Buffer.from(key).toString("hex")}` });
    const result = await this.reconciler.sync(image);
    assert.equal(result.failure, null);
    return result;
  }

  /** The runs of the last sync: "update slots4 x3". */
  get runs(): string[] {
    const runs: { name: string; count: number }[] = [];
    for (const { map, kind } of this.written) {
      const last = runs.at(-1);
      if (last?.name === `${kind} ${map}`) last.count += 1;
      else runs.push({ name: `${kind} ${map}`, count: 1 });
    }
    return runs.map(({ name, count }) => `${name} x${count}`);
  }

  async write(map: MapName, key: Uint8Array, value: Uint8Array): Promise<void> {
    await this.kernel.apply([{ map, kind: "update", count: 1, keys: key, values: value }]);
  }

  async delete(map: MapName, key: Uint8Array): Promise<void> {
    await this.kernel.apply([{ map, kind: "delete", count: 1, keys: key, values: new Uint8Array(0) }]);
  }

  classes(text: string): number | null {
    const { family, bytes } = ip(text);
    const key = FAMILY_CODECS[family].addrPort.encode({ addr: bytes, port: 0, protocol: 0 });
    const value = this.kernel.get(`addresses${family}`, key);
    return value && Buffer.from(value).readUInt32LE(0);
  }

  frontend(text: string, port: number): { readonly flags: number; readonly affinitySeconds: number } | null {
    const { family, bytes } = ip(text);
    const key = FAMILY_CODECS[family].addrPort.encode({ addr: bytes, port, protocol: 6 });
    const value = this.kernel.get(`frontends${family}`, key);
    return value && frontendCodec.decode(value);
  }
}

const VIPS = { 4: "192.0.2.10", 6: "2001:db8::10" };
const LBS = { 4: "192.0.2.20", 6: "2001:db8::20" };
const ZERO = { 4: "0.0.0.0", 6: "::" };
const NODES = { 4: "172.16.0.1", 6: "fd00:172::1" };

interface Options {
  readonly family?: Family;
  readonly backends?: number;
  readonly ranges?: readonly string[];
  readonly change?: (backend: BackendImage, i: number) => BackendImage;
  readonly affinity?: number;
  readonly chosen?: readonly number[];
}

/** A LoadBalancer Service with everything that it can have, session affinity included. */
function everything(i: number, options: Options = {}): ServicePortImage {
  const { family = 4, backends = 3, ranges = [], change = (same) => same, affinity = 10800 } = options;
  const plain = bigPort(i, backends, { family });
  const chosen = options.chosen ?? plain.backends.map((_, index) => index);
  const own = plain.backends.map((backend, index) =>
    change({ ...backend, local: index === 0, clusterSet: affinity > 0, localSet: index === 0 }, index),
  );
  const cluster = { backends: chosen, whenEmpty: "reject", set: "cluster" } as const;
  // Of a choice with backends the maps do not hold what would be without.
  const local = {
    backends: chosen.filter((index) => index === 0),
    whenEmpty: chosen.includes(0) ? "reject" : "drop",
    set: "local",
  } as const;
  const outside = { internal: cluster, external: local, sourceRanged: false, masquerade: "never" } as const;
  const frontends: FrontendImage[] = [
    {
      ...outside,
      kind: "ClusterIP",
      address: nthAddress(family, 11, i),
      port: 80,
      external: cluster,
      masquerade: "outsiders",
    },
    { ...outside, kind: "ExternalIP", address: ip(VIPS[family]), port: 80 + i, masquerade: "always" },
    {
      ...outside,
      kind: "LoadBalancer",
      address: ip(LBS[family]),
      port: 80 + i,
      sourceRanged: ranges.length > 0,
    },
    { ...outside, kind: "NodePort", address: ip(ZERO[family]), port: 30000 + i },
  ];
  return { ...plain, backends: own, frontends, affinitySeconds: affinity, sourceRanges: ranges.map(cidr) };
}

function world(ports: readonly ServicePortImage[], changes: Partial<Image> = {}): Image {
  return { ...imageOf(ports), ...changes };
}

const NODE_WIDE = {
  nodePortAddresses: FAMILIES.map((family) => ip(NODES[family])),
  serviceNetworks: ["11.0.0.0/8", "fd0b::/16"].map(cidr),
};
const LISTS = { 4: ["10.0.0.0/8", "192.0.2.0/24"], 6: ["2001:db8::/32", "fd00::/8"] };

for (const family of FAMILIES) {
  test(`sync() writes frontends of all kinds with their flags, IPv${family}, and a NodePort gives the address zero no class`, async () => {
    const rig = new Rig();
    const image = world([everything(0, { family, ranges: LISTS[family] })], NODE_WIDE);
    await rig.sync(image);
    assertExactly(rig.kernel, image);
    const { frontends } = everything(0, { family });
    assert.deepEqual(
      frontends.map(({ address, port }) => rig.frontend(address.text, port)?.flags),
      [
        FrontendFlag.FRONTEND_CLUSTER_IP | FrontendFlag.FRONTEND_MASQUERADE_OUTSIDERS,
        FrontendFlag.FRONTEND_MASQUERADE | FrontendFlag.FRONTEND_EXTERNAL_LOCAL,
        FrontendFlag.FRONTEND_SOURCE_RANGES | FrontendFlag.FRONTEND_EXTERNAL_LOCAL,
        FrontendFlag.FRONTEND_NODE_PORT | FrontendFlag.FRONTEND_EXTERNAL_LOCAL,
      ],
    );
    assert.equal(rig.classes(ZERO[family]), null);
    assert.equal(rig.classes(NODES[family]), AddressClass.CLASS_NODE);
    assert.equal(rig.classes(VIPS[family]), AddressClass.CLASS_VIP);
    const [clusterIp] = frontends;
    assert.equal(
      rig.classes(clusterIp?.address.text ?? ""),
      AddressClass.CLASS_VIP | AddressClass.CLASS_CLUSTER_IP,
    );
    const restarted = await rig.agent().sync(image);
    assert.deepEqual([restarted.writes, restarted.ffiCalls], [0, DUMPS]);
    assert.deepEqual((await rig.reconciler.audit()).differences.size, 0);
    await rig.sync(world([]));
    assertExactly(rig.kernel, world([]));
    assert.equal(rig.kernel.size(`addresses${family}`), 0);
  });
}

test("sync() counts the reasons of an address that is a ClusterIP, an externalIP, a backend and the node's at once", async () => {
  const rig = new Rig();
  const text = "192.0.2.10";
  const at = (port: ServicePortImage): ServicePortImage => ({
    ...port,
    frontends: port.frontends.map((frontend) => ({ ...frontend, address: ip(text) })),
  });
  const ofKind = (i: number, kind: FrontendImage["kind"]): ServicePortImage => {
    const port = at(bigPort(i, 0));
    return { ...port, frontends: port.frontends.map((each) => ({ ...each, kind, port: 1000 + i })) };
  };
  const serving = { serving: true, local: false, clusterSet: false, localSet: false };
  const asBackend = { ...bigPort(5, 0), backends: [{ address: ip(text), port: 80, ...serving }] };
  const node = { nodePortAddresses: [ip(text)] };
  const { CLASS_VIP, CLASS_CLUSTER_IP, CLASS_BACKEND, CLASS_NODE } = AddressClass;
  const a = ofKind(0, "ExternalIP");
  const b = ofKind(1, "LoadBalancer");
  const c = ofKind(2, "ClusterIP");
  const steps: readonly (readonly [Image, number | null])[] = [
    [world([a]), CLASS_VIP],
    [world([a, b, c, asBackend], node), CLASS_VIP | CLASS_CLUSTER_IP | CLASS_BACKEND | CLASS_NODE],
    [world([b, asBackend], node), CLASS_VIP | CLASS_BACKEND | CLASS_NODE],
    [world([asBackend], node), CLASS_BACKEND | CLASS_NODE],
    [world([], node), CLASS_NODE],
    [world([c], {}), CLASS_VIP | CLASS_CLUSTER_IP],
    // The same frontend, of another kind.
    [
      world([{ ...c, frontends: c.frontends.map((each) => ({ ...each, kind: "ExternalIP" as const })) }]),
      CLASS_VIP,
    ],
    [world([]), null],
  ];
  for (const [image, classes] of steps) {
    await rig.sync(image);
    assert.equal(rig.classes(text), classes);
    assertExactly(rig.kernel, image);
    assert.equal((await rig.agent().sync(image)).writes, 0);
  }
});

test("sync() makes a cell DRAINING after the frontends have let go of it, and LIVE before they name it, with its generation (9.3)", async () => {
  const rig = new Rig();
  await rig.sync(world([everything(0)]));
  const before = cellAt(rig.kernel, 4, 3);
  const draining = everything(0, {
    chosen: [0, 1],
    change: (backend, i) => (i === 2 ? { ...backend, serving: false, clusterSet: false } : backend),
  });
  await rig.sync(world([draining]));
  // The Local set is the same; the cluster set has a range of its own.
  assert.deepEqual(rig.runs, ["update slots4 x2", "update frontends4 x4", "update backends4 x1"]);
  const now = cellAt(rig.kernel, 4, 3);
  assert.deepEqual(now, { ...before, state: BackendState.BACKEND_DRAINING, flags: 0 });
  assertExactly(rig.kernel, world([draining]));
  assert.equal((await rig.agent().sync(world([draining]))).writes, 0, "a start leaves it as it is");

  await rig.sync(world([everything(0)]));
  assert.deepEqual(rig.runs, ["update backends4 x1", "update slots4 x3", "update frontends4 x4"]);
  assert.deepEqual(cellAt(rig.kernel, 4, 3), before);

  await rig.sync(world([draining]));
  const left = everything(0, { backends: 2 });
  await rig.sync(world([left]));
  assert.deepEqual(rig.runs, ["delete addresses4 x2", "update backends4 x1"]);
  assert.equal(cellAt(rig.kernel, 4, 3).generation, before.generation + 1, "free: another generation");
});

test("sync() puts a cell into a set before its frontends offer it and takes it out afterwards (5.3)", async () => {
  const rig = new Rig();
  const only = (chosen: readonly number[]): Image =>
    world([
      everything(0, {
        chosen,
        change: (backend, i) => ({
          ...backend,
          clusterSet: chosen.includes(i),
          localSet: false,
          local: false,
        }),
      }),
    ]);
  await rig.sync(only([0, 1]));
  await rig.sync(only([1, 2]));
  assert.deepEqual(rig.runs, [
    "update backends4 x1",
    "update slots4 x2",
    "update frontends4 x4",
    "update backends4 x1",
  ]);
  assert.deepEqual(
    [1, 2, 3].map((cell) => cellAt(rig.kernel, 4, cell).flags),
    [0, BackendFlag.BACKEND_CLUSTER_SET, BackendFlag.BACKEND_CLUSTER_SET],
  );
  assertExactly(rig.kernel, only([1, 2]));
});

for (const family of FAMILIES) {
  test(`sync() changes a list of source ranges by the ranges alone: new ones first, old ones last, IPv${family}`, async () => {
    const rig = new Rig();
    const [first = "", second = ""] = LISTS[family];
    const other = family === 4 ? "0.0.0.0/0" : "::/0";
    const listed = (...ranges: string[]): Image => world([everything(0, { family, ranges })]);
    await rig.sync(listed(first, second));
    const changed = await rig.sync(listed(second, other));
    assert.deepEqual(rig.runs, [`update source_ranges${family} x1`, `delete source_ranges${family} x1`]);
    assert.equal(changed.ffiCalls, 1);
    assertExactly(rig.kernel, listed(second, other));
    await rig.sync(listed());
    assert.deepEqual(rig.runs, [`update frontends${family} x1`, `delete source_ranges${family} x2`]);
    await rig.sync(listed(first));
    assert.deepEqual(rig.runs, [`update source_ranges${family} x1`, `update frontends${family} x1`]);
    await rig.sync(world([]));
    assert.equal(rig.kernel.size(`source_ranges${family}`), 0);
    const order = rig.runs.filter((run) => /frontends|source_ranges|services/.test(run));
    assert.deepEqual(order, [
      `delete frontends${family} x4`,
      `delete source_ranges${family} x1`,
      "delete services x1",
    ]);
  });
}

test("sync() gives a service index that is used again none of its old ranges", async () => {
  const rig = new Rig({ services: 1, counters: 65 });
  await rig.sync(world([everything(0, { ranges: LISTS[4] })]));
  await rig.sync(world([]));
  rig.now += 2000;
  const image = world([everything(1, { ranges: ["198.51.100.0/24"] })]);
  assert.deepEqual((await rig.sync(image)).refused, []);
  assertExactly(rig.kernel, image);
});

test("sync() adds a service network when its ClusterIPs are known, and takes it away before they are forgotten (6.13)", async () => {
  const rig = new Rig();
  const net = { serviceNetworks: [cidr("11.0.0.0/8")] };
  await rig.sync(world([bigPort(0, 0)], net));
  assert.deepEqual(rig.runs, [
    "update services x1",
    "update addresses4 x1",
    "update frontends4 x1",
    "update service_nets4 x1",
  ]);
  const changed = await rig.sync(world([bigPort(0, 0)], { serviceNetworks: [cidr("11.0.0.0/16")] }));
  assert.deepEqual(rig.runs, ["update service_nets4 x1", "delete service_nets4 x1"]);
  assert.equal(changed.ffiCalls, 1);
  await rig.sync(world([]));
  assert.deepEqual(rig.runs, [
    "delete frontends4 x1",
    "delete service_nets4 x1",
    "delete addresses4 x1",
    "delete services x1",
  ]);
});

test("sync() writes one entry for an address of the node that comes or goes, and nothing for a list that is the same", async () => {
  const rig = new Rig();
  const ports = [everything(0), bigPort(1, 3)];
  const image = world(ports, { nodePortAddresses: [ip("172.16.0.1")] });
  await rig.sync(image);
  const more = { ...image, nodePortAddresses: [ip("172.16.0.1"), ip("172.16.0.2"), ip("fd00:172::2")] };
  await rig.sync(more);
  assert.deepEqual(rig.runs, ["update addresses4 x1", "update addresses6 x1"]);
  assert.equal((await rig.sync({ ...more, nodePortAddresses: [...more.nodePortAddresses] })).writes, 0);
  await rig.sync({ ...image, nodePortAddresses: [] });
  assert.deepEqual(rig.runs, ["delete addresses4 x2", "delete addresses6 x1"]);
});

const RICH = world(
  [
    everything(0, {
      ranges: LISTS[4],
      change: (backend, i) => (i === 1 ? { ...backend, serving: false } : backend),
      chosen: [0, 2],
    }),
    everything(1, { family: 6, ranges: LISTS[6] }),
  ],
  NODE_WIDE,
);

/** What somebody else may do to the maps. Returns which map differs then. */
const TAMPERINGS: readonly (readonly [string, (rig: Rig) => Promise<MapName>])[] = [
  ...FAMILIES.flatMap((family) =>
    (["source_ranges", "service_nets", "addresses", "frontends"] as const).map(
      (map) =>
        [
          `everything deleted from ${map}${family}`,
          async (rig: Rig): Promise<MapName> => {
            for (const [key] of [...rig.kernel.entries(`${map}${family}`)])
              await rig.delete(`${map}${family}`, key);
            return `${map}${family}`;
          },
        ] as const,
    ),
  ),
  [
    "a range of everybody, for every service",
    async (rig) => {
      await rig.write("source_ranges4", new Uint8Array(12), u32(1));
      return "source_ranges4";
    },
  ],
  [
    "a further range of a service, and one of none",
    async (rig) => {
      const range = (service: number): Uint8Array =>
        FAMILY_CODECS[6].sourceRange.encode({ prefixLength: 33, service, addr: new Uint8Array(16) });
      await rig.write("source_ranges6", range(1), u32(1));
      await rig.write("source_ranges6", range(31_000), u32(1));
      return "source_ranges6";
    },
  ],
  [
    "another value of a range",
    async (rig) => {
      for (const [key] of [...rig.kernel.entries("source_ranges4")])
        await rig.write("source_ranges4", key, u32(0));
      return "source_ranges4";
    },
  ],
  [
    "a service network of the whole world",
    async (rig) => {
      await rig.write("service_nets4", new Uint8Array(8), u32(1));
      return "service_nets4";
    },
  ],
  [
    "flags of every frontend",
    async (rig) => {
      for (const [key, value] of [...rig.kernel.entries("frontends4")])
        await rig.write(
          "frontends4",
          key,
          frontendCodec.encode({ ...frontendCodec.decode(value), flags: 2 }),
        );
      return "frontends4";
    },
  ],
  [
    "a class for the address zero",
    async (rig) => {
      await rig.write("addresses4", new Uint8Array(8), u32(AddressClass.CLASS_VIP));
      return "addresses4";
    },
  ],
  [
    "state and flags of cells",
    async (rig) => {
      for (const cell of [1, 2, 3]) {
        const bytes = rig.kernel.get("backends4", u32(cell)) as Uint8Array;
        const fields = FAMILY_CODECS[4].backend.decode(bytes);
        const state =
          fields.state === BackendState.BACKEND_LIVE
            ? BackendState.BACKEND_DRAINING
            : BackendState.BACKEND_LIVE;
        await rig.write(
          "backends4",
          u32(cell),
          FAMILY_CODECS[4].backend.encode({ ...fields, state, flags: 7 }),
        );
      }
      return "backends4";
    },
  ],
];

for (const [what, tamper] of TAMPERINGS) {
  test(`audit() and a restart heal ${what}`, async () => {
    for (const how of ["audit", "restart"] as const) {
      const rig = new Rig();
      await rig.sync(RICH);
      assertExactly(rig.kernel, RICH);
      const map = await tamper(rig);
      const reconciler = how === "audit" ? rig.reconciler : rig.agent();
      if (how === "audit") assert.deepEqual([...(await reconciler.audit()).differences.keys()], [map]);
      else assert.equal((await reconciler.sync(RICH)).failure, null);
      assertExactly(rig.kernel, RICH);
      assert.equal((await reconciler.audit()).differences.size, 0, `${how}: nothing is left`);
      assert.equal((await rig.agent().sync(RICH)).writes, 0);
    }
  });
}

test("sync() keeps cells and generations whose state or flags somebody changed", async () => {
  const rig = new Rig();
  await rig.sync(RICH);
  const before = [1, 2, 3].map((cell) => cellAt(rig.kernel, 4, cell));
  for (const cell of [1, 2, 3]) {
    const bytes = rig.kernel.get("backends4", u32(cell)) as Uint8Array;
    await rig.write(
      "backends4",
      u32(cell),
      FAMILY_CODECS[4].backend.encode({ ...FAMILY_CODECS[4].backend.decode(bytes), flags: 0 }),
    );
  }
  const { repair } = await rig.reconciler.audit();
  assert.equal(repair?.writes, 3);
  assert.deepEqual(
    [1, 2, 3].map((cell) => cellAt(rig.kernel, 4, cell)),
    before,
  );
});

test("sync() refuses a service port whose ranges do not fit, whole, and writes it when there is room", async () => {
  const rig = new Rig({ source_ranges4: 3 });
  const [a, b] = [everything(0, { ranges: LISTS[4] }), everything(1, { ranges: LISTS[4] })];
  const result = await rig.sync(world([a, b]));
  assert.deepEqual(
    result.refused.map((each) => ({ ...each, message: "" })),
    [
      {
        code: "E_MAP_FULL",
        key: b.key,
        map: "source_ranges4",
        needed: 2,
        available: 1,
        waiting: false,
        message: "",
      },
    ],
  );
  assert.match(
    result.refused[0]?.message ?? "",
    /service-1.* needs 2 entries of map source_ranges4, 1 are free/,
  );
  assertExactly(rig.kernel, world([a]));
  assert.deepEqual((await rig.sync(world([b]))).refused, []);
  assertExactly(rig.kernel, world([b]));
});

test("sync() refuses a service network and an address of the node that do not fit, by name, and writes the rest", async () => {
  const rig = new Rig({ service_nets4: 1, addresses4: 2 });
  const all = {
    serviceNetworks: ["10.96.0.0/16", "10.97.0.0/16"].map(cidr),
    nodePortAddresses: ["172.16.0.1", "172.16.0.2", "172.16.0.3"].map(ip),
  };
  const logged: string[] = [];
  const logger = { ...silentLogger, error: (_: object, text: string) => logged.push(text) };
  rig.reconciler = new Reconciler({ kernel: rig.kernel, logger });
  const result = await rig.sync(world([], all));
  await rig.sync(world([], all));
  const text = "a NodePort address or service network was not written";
  assert.deepEqual(logged, [text, text], "one line each");
  assert.deepEqual(
    result.refused.map(({ message }) => message),
    [
      "NodePort address 172.16.0.3: needs 1 entries of map addresses4, 0 are free",
      "Service network 10.97.0.0/16: needs 1 entries of map service_nets4, 0 are free",
    ],
  );
  const fits = {
    serviceNetworks: all.serviceNetworks.slice(0, 1),
    nodePortAddresses: all.nodePortAddresses.slice(0, 2),
  };
  assertExactly(rig.kernel, world([], fits));
  const others = {
    serviceNetworks: all.serviceNetworks.slice(1),
    nodePortAddresses: all.nodePortAddresses.slice(1),
  };
  assert.deepEqual((await rig.sync(world([], others))).refused, [], "room that the same sync makes is used");
  assertExactly(rig.kernel, world([], others));
});

test("Reconciler.found() gives back every kind of frontend, ranges, states and sets", async () => {
  const rig = new Rig();
  await rig.sync(RICH);
  const found = await rig.agent().found();
  assert.deepEqual(found.nodePortAddresses, RICH.nodePortAddresses);
  assert.deepEqual(found.serviceNetworks, RICH.serviceNetworks);
  for (const [key, port] of RICH.servicePorts) {
    const held = found.servicePorts.get(key);
    const sorted = (frontends: readonly FrontendImage[] = []): FrontendImage[] =>
      [...frontends].sort((a, b) => (a.kind < b.kind ? -1 : 1));
    assert.deepEqual(sorted(held?.frontends), sorted(port.frontends));
    assert.deepEqual({ ...held, frontends: [] }, { ...port, frontends: [] });
  }
  assert.equal((await rig.agent().sync(found)).writes, 0, "what was found is what is there");
});

/** Much of everything changes at once: sets, states, ranges, flags, kinds, node and networks. */
const LATER = world(
  [
    everything(0, {
      backends: 4,
      ranges: ["198.51.100.0/24", "10.0.0.0/8"],
      chosen: [1, 2, 3],
      change: (backend, i) =>
        i === 0 ? { ...backend, serving: false, clusterSet: false, localSet: false } : backend,
    }),
    everything(2, { family: 6, ranges: ["::/0"] }),
  ],
  { nodePortAddresses: [ip("172.16.0.9")], serviceNetworks: [cidr("11.0.0.0/16"), cidr("fd0b::/32")] },
);

for (const [from, to, name] of [
  [RICH, LATER, "forth"],
  [LATER, RICH, "back"],
  [RICH, world([]), "to nothing"],
] as const) {
  test(`sync() keeps every rule when the agent dies after any one write, and repairs: ${name}`, async () => {
    const start = new Rig();
    await start.sync(from);
    const { writes } = await new Reconciler({ kernel: start.kernel.clone() }).sync(to);
    assert.ok(writes > 15);
    for (let died = 0; died <= writes; died += 1) {
      const kernel = start.kernel.clone();
      const watcher = new RuleWatcher(1000);
      watcher.begin(kernel, to);
      kernel.afterWrite = (write) => watcher.check(kernel, write, 5000);
      kernel.crashAfter(died);
      await new Reconciler({ kernel, clock: { now: () => 5000 } }).sync(to);
      kernel.crashAfter(Number.POSITIVE_INFINITY);
      const repair = await new Reconciler({ kernel, clock: { now: () => 5000 } }).sync(to);
      assert.deepEqual([repair.failure, repair.refused], [null, []]);
      assertExactly(kernel, to);
      assert.ok(watcher.checks >= writes);
      assert.equal((await new Reconciler({ kernel }).sync(to)).writes, 0);
    }
  });
}
