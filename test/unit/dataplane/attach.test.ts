// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { test } from "node:test";
import { InterfaceFlag, Role } from "../../../src/abi/enums.gen.js";
import { interfaceCodec } from "../../../src/abi/layout.gen.js";
import {
  type AttachOutcome,
  type AttachRequest,
  type Hooks,
  InterfaceKeeper,
  type LinkSnapshot,
} from "../../../src/dataplane/attach.js";
import type { Link } from "../../../src/dataplane/interfaces.js";
import { MemoryKernel } from "../../../src/native/memory.js";
import { parseIp } from "../../../src/net/ip.js";
import { type Logger, silentLogger } from "../../../src/util/log.js";

class FakeHooks implements Hooks {
  links: Link[] = [];
  readonly addresses: {
    ifindex: number;
    address: NonNullable<ReturnType<typeof parseIp>>;
    prefixLength: number;
  }[] = [];
  readonly on = new Set<number>();
  readonly requests: AttachRequest[] = [];
  readonly refusals = new Map<number, AttachOutcome>();
  /** Called before each attach: what does the map hold then? */
  beforeAttach: (request: AttachRequest) => void = () => {};

  readLinks(): LinkSnapshot {
    return {
      links: this.links,
      addresses: this.addresses,
      defaultRoutes: new Set(),
      localAddresses: this.addresses.map(({ address }) => address),
    };
  }

  async attach(requests: readonly AttachRequest[]): Promise<readonly AttachOutcome[]> {
    return requests.map((request) => {
      this.beforeAttach(request);
      this.requests.push(request);
      const refusal = this.refusals.get(request.ifindex);
      if (refusal) return refusal;
      this.on.add(request.ifindex);
      return { mode: "tcx", error: null };
    });
  }

  async present(interfaces: readonly { readonly ifindex: number }[]): Promise<ReadonlySet<number>> {
    return new Set(interfaces.map(({ ifindex }) => ifindex).filter((ifindex) => this.on.has(ifindex)));
  }

  readonly foreign = new Map<number, string>();
  readonly strict = new Set<string>();

  async others(ifindexes: readonly number[]): Promise<ReadonlyMap<number, string>> {
    return new Map([...this.foreign].filter(([ifindex]) => ifindexes.includes(ifindex)));
  }

  isStrict(name: string): boolean {
    return this.strict.has(name);
  }

  async detach(ifindexes: readonly number[]): Promise<void> {
    for (const ifindex of ifindexes) this.on.delete(ifindex);
  }
}

function veth(ifindex: number): Link {
  return { ifindex, name: `veth${ifindex}`, kind: "veth", hardwareType: 1, master: 3, peerElsewhere: true };
}

const CNI0: Link = {
  ifindex: 3,
  name: "cni0",
  kind: "bridge",
  hardwareType: 1,
  master: 0,
  peerElsewhere: false,
};

function setUp(kernel = new MemoryKernel(), hooks = new FakeHooks()) {
  const said: string[] = [];
  const say = (fields: Readonly<Record<string, unknown>>, message: string): void => {
    said.push(`${message} ${String(fields.iface)}`);
  };
  const log: Logger = { debug: say, info: say, warn: say, error: say };
  const keeper = new InterfaceKeeper(
    "auto",
    { devices: [], podInterfaces: [] },
    { hooks, maps: kernel, log },
  );
  return { kernel, hooks, keeper, said };
}

/** ifindex -> role, as the kernel's map has it. */
async function entries(kernel: MemoryKernel): Promise<Map<number, number>> {
  const { count, keys, values } = await kernel.dump("interfaces");
  const view = new DataView(keys.buffer, keys.byteOffset, keys.byteLength);
  return new Map(
    Array.from({ length: count }, (_, i) => [
      view.getUint32(4 * i, true),
      interfaceCodec.decode(values, i * interfaceCodec.size).role,
    ]),
  );
}

test("InterfaceKeeper.sync() has the entry in the map before the programs run", async () => {
  const { kernel, hooks, keeper } = setUp();
  hooks.links = [CNI0, veth(5)];
  let written = -1;
  hooks.beforeAttach = () => {
    written = kernel.stats.mapWrites;
  };
  await keeper.sync();
  assert.equal(written, 2, "cni0 and veth5");
  assert.deepEqual(
    await entries(kernel),
    new Map([
      [3, Role.BRIDGE],
      [5, Role.POD],
    ]),
  );
  assert.deepEqual([...hooks.on], [5], "a bridge is known, not hooked");
});

test("InterfaceKeeper.sync() follows interfaces as they come and go, and asks nothing twice", async () => {
  const { kernel, hooks, keeper, said } = setUp();
  hooks.links = [CNI0, veth(5)];
  await keeper.sync();
  hooks.links = [CNI0, veth(5), veth(6)];
  await keeper.sync();
  assert.deepEqual(
    hooks.requests.map(({ ifindex }) => ifindex),
    [5, 6],
  );
  hooks.links = [CNI0, veth(6)];
  await keeper.sync();
  assert.deepEqual([...hooks.on], [6]);
  assert.deepEqual([...(await entries(kernel)).keys()].sort(), [3, 6]);
  assert.deepEqual(said, ["attached veth5", "attached veth6", "detached veth5"]);
});

test("InterfaceKeeper.sync() of a restarted agent writes nothing, and takes away what an earlier one left", async () => {
  const first = setUp();
  first.hooks.links = [CNI0, veth(5), veth(6)];
  await first.keeper.sync();
  const writes = first.kernel.stats.mapWrites;

  const second = setUp(first.kernel, first.hooks);
  await second.keeper.sync();
  assert.equal(first.kernel.stats.mapWrites, writes);

  first.hooks.links = [CNI0, veth(6)]; // veth5 went while no agent ran
  const third = setUp(first.kernel, first.hooks);
  await third.keeper.sync();
  assert.deepEqual([...(await entries(first.kernel)).keys()].sort(), [3, 6]);
  assert.deepEqual([...first.hooks.on], [6]);
});

test("InterfaceKeeper.sync() serves the others when one interface refuses, says so once, and tries again", async () => {
  const { hooks, keeper, said } = setUp();
  hooks.links = [CNI0, veth(5), veth(6)];
  hooks.refusals.set(5, { error: "a qdisc is in the way", gone: false });
  await keeper.sync();
  await keeper.sync();
  assert.deepEqual([...hooks.on], [6]);
  assert.deepEqual(said, ["interface not served veth5", "attached veth6"]);
  hooks.refusals.clear();
  await keeper.sync();
  assert.deepEqual([...hooks.on].sort(), [5, 6]);
});

test("InterfaceKeeper.sync(audit) attaches again what somebody took away, and repairs the map", async () => {
  const { kernel, hooks, keeper, said } = setUp();
  hooks.links = [CNI0, veth(5), veth(6)];
  await keeper.sync();
  hooks.on.delete(5);
  const key = Uint8Array.of(5, 0, 0, 0);
  await kernel.apply([{ map: "interfaces", kind: "delete", count: 1, keys: key, values: new Uint8Array() }]);
  await keeper.sync(true);
  assert.deepEqual(
    hooks.requests.map(({ ifindex }) => ifindex),
    [5, 6, 5],
    "veth6 was left alone",
  );
  assert.deepEqual(said.slice(2), [
    "the interfaces map was changed by someone else undefined",
    "programs were taken off by someone else veth5",
    "attached veth5",
  ]);
  assert.deepEqual([...(await entries(kernel)).keys()].sort(), [3, 5, 6]);
});

test("InterfaceKeeper.sync() writes one entry when one address has changed", async () => {
  const { kernel, hooks, keeper } = setUp();
  const [first, second] = [parseIp("10.244.1.1"), parseIp("10.244.1.2")];
  assert.ok(first && second);
  hooks.links = [CNI0, veth(5), veth(6)];
  await keeper.sync();
  const writes = kernel.stats.mapWrites;
  hooks.addresses.push({ ifindex: 6, address: first, prefixLength: 32 });
  await keeper.sync();
  assert.equal(kernel.stats.mapWrites - writes, 1);
  hooks.addresses.splice(0, 1, { ifindex: 6, address: second, prefixLength: 32 });
  await keeper.sync();
  assert.equal(kernel.stats.mapWrites - writes, 2);
});

test("InterfaceKeeper.sync() reads the map anew after the kernel refused a write", async () => {
  const kernel = new MemoryKernel({ maxEntries: { interfaces: 1 } });
  const { hooks, keeper } = setUp(kernel);
  hooks.links = [CNI0, veth(5)];
  await assert.rejects(keeper.sync(), { code: "E_INTERFACES_MAP" });
  hooks.links = [CNI0];
  await keeper.sync();
  assert.deepEqual(await entries(kernel), new Map([[3, Role.BRIDGE]]));
});

test("InterfaceKeeper.sync(audit) that meets an interface on its way out says nothing but detached", async () => {
  const { hooks, keeper, said } = setUp();
  hooks.links = [CNI0, veth(5)];
  await keeper.sync();
  hooks.on.delete(5); // its programs went first, and it is still listed
  hooks.refusals.set(5, { error: "there is no such interface", gone: true });
  await keeper.sync(true);
  hooks.links = [CNI0];
  await keeper.sync();
  assert.deepEqual(said, ["attached veth5", "detached veth5"]);
});

const UPLINK: Link = { ...CNI0, ifindex: 2, name: "eth0", kind: "" };

function give(hooks: FakeHooks, ifindex: number, text: string): void {
  const address = parseIp(text);
  assert.ok(address);
  hooks.addresses.push({ ifindex, address, prefixLength: 24 });
}

/** The node's own IPv4 address in the map; null: there is no such entry. */
function ownAddress(kernel: MemoryKernel): string | null {
  const value = kernel.get("interfaces", new Uint8Array(4));
  if (value === null) return null;
  const { role, masquerade4 } = interfaceCodec.decode(value);
  assert.equal(role, Role.NODE);
  return masquerade4.join(".");
}

test("InterfaceKeeper.sync() writes the node's own address, and follows the Node object and the interfaces", async () => {
  const { kernel, hooks, keeper } = setUp();
  hooks.links = [UPLINK];
  await keeper.sync();
  assert.equal(ownAddress(kernel), null, "there is none yet");
  give(hooks, 2, "10.1.0.1");
  give(hooks, 2, "10.1.0.2");
  await keeper.sync();
  assert.equal(ownAddress(kernel), "10.1.0.1");
  const primary = parseIp("10.1.0.2");
  assert.ok(primary);
  assert.equal(keeper.setNodeAddresses([primary]), true);
  assert.equal(keeper.setNodeAddresses([primary]), false, "nothing new");
  await keeper.sync();
  assert.equal(ownAddress(kernel), "10.1.0.2");
  hooks.addresses.pop();
  await keeper.sync();
  assert.equal(ownAddress(kernel), "10.1.0.1", "the primary one has gone from this host");
  hooks.addresses.pop();
  await keeper.sync();
  assert.equal(ownAddress(kernel), null);
});

test("InterfaceKeeper.sync() of a restarted agent keeps the node's address until the Node object is known", async () => {
  const first = setUp();
  first.hooks.links = [UPLINK];
  give(first.hooks, 2, "10.1.0.1");
  give(first.hooks, 2, "10.1.0.2");
  const primary = parseIp("10.1.0.2");
  assert.ok(primary);
  first.keeper.setNodeAddresses([primary]);
  await first.keeper.sync();
  const writes = first.kernel.stats.mapWrites;

  const second = setUp(first.kernel, first.hooks);
  await second.keeper.sync();
  second.keeper.setNodeAddresses([primary]);
  await second.keeper.sync(true);
  assert.equal(first.kernel.stats.mapWrites, writes + 1, "the audit tries whether the map takes a write");
  assert.equal(ownAddress(first.kernel), "10.1.0.2");
});

test("InterfaceKeeper.sync() flags the interfaces that bring local pods' packets (8.3)", async () => {
  const kernel = new MemoryKernel();
  const hooks = new FakeHooks();
  hooks.links = [CNI0, veth(5), { ...veth(6), master: 0 }];
  const options = { devices: [], podInterfaces: [], localPods: { bridge: "cni0" } };
  await new InterfaceKeeper("auto", options, { hooks, maps: kernel, log: silentLogger }).sync();
  const flags = [...kernel.entries("interfaces")].map(([key, value]) => [
    key[0],
    interfaceCodec.decode(value).flags,
  ]);
  assert.deepEqual(flags, [
    [3, InterfaceFlag.INTERFACE_LOCAL_PODS],
    [5, InterfaceFlag.INTERFACE_LOCAL_PODS],
    [6, InterfaceFlag.INTERFACE_PEER],
  ]);
});

test("InterfaceKeeper.setShortcut() opens and closes interfaces in the map, and attaches nothing anew", async () => {
  const { kernel, hooks, keeper } = setUp();
  const routed = (ifindex: number): Link => ({ ...veth(ifindex), master: 0, mtu: 1450, qdisc: "noqueue" });
  hooks.links = [routed(5), routed(6)];
  hooks.foreign.set(6, "other (in, tcx)");
  const flags = async (): Promise<Record<number, number>> => {
    const { count, keys, values } = await kernel.dump("interfaces");
    const view = new DataView(keys.buffer, keys.byteOffset, keys.byteLength);
    const entry = (i: number) => interfaceCodec.decode(values, i * interfaceCodec.size);
    assert.ok(Array.from({ length: count }, (_, i) => entry(i)).every(({ mtu }) => mtu === 1450));
    return Object.fromEntries(
      Array.from({ length: count }, (_, i) => [view.getUint32(4 * i, true), entry(i).flags]),
    );
  };
  const { INTERFACE_PEER: peer, INTERFACE_SHORTCUT: shortcut } = InterfaceFlag;
  await keeper.sync();
  assert.deepEqual(await flags(), { 5: peer, 6: peer });
  keeper.setShortcut({ cautious: false });
  await keeper.sync();
  assert.deepEqual(await flags(), { 5: peer | shortcut, 6: peer });
  assert.deepEqual([...keeper.closed], [[6, "other (in, tcx) would not see its packets"]]);
  keeper.setShortcut(null);
  await keeper.sync();
  assert.deepEqual(await flags(), { 5: peer, 6: peer });
  assert.equal(hooks.requests.length, 2);
});
