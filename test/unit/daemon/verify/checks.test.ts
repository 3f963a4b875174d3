// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { LAYOUT_VERSION } from "../../../../src/abi/abi-hash.gen.js";
import { Role } from "../../../../src/abi/enums.gen.js";
import { interfaceCodec } from "../../../../src/abi/layout.gen.js";
import { MAP_NAMES } from "../../../../src/abi/maps.gen.js";
import { checkInterfaceEntries, expectedByMap } from "../../../../src/daemon/verify/interface-entries.js";
import { checkPins, checkSettings, checkStalePins, mapsOf } from "../../../../src/daemon/verify/pins.js";
import { checkPrograms, checkSockets, type ProgramIdentity } from "../../../../src/daemon/verify/programs.js";
import type { Attachment } from "../../../../src/native/hooks.js";
import { SOCKET_HOOKS, type SocketLink } from "../../../../src/native/sockets.js";

const UNKNOWN: ProgramIdentity = { tags: null, ids: null };
const POD = { ifindex: 5, name: "veth5", role: "pod" } as const;
const NAMES = new Map([
  [5, "veth5"],
  [6, "veth6"],
]);

function at(direction: "in" | "out", more: Partial<Attachment> = {}): Attachment {
  const name = more.name ?? `ptl_pod_${direction}`;
  const programId = direction === "in" ? 11 : 12;
  const base = {
    ifindex: 5,
    direction,
    mode: "tcx",
    position: 0,
    programId,
    linkId: 1,
    priority: 0,
  } as const;
  return { ...base, tag: "aa", name, ours: name.startsWith("ptl_"), ...more };
}

function found(attachments: readonly Attachment[], identity = UNKNOWN): string[] {
  return checkPrograms({ expected: [POD], attachments, names: NAMES, identity }).map(
    ({ kind, where, entry }) => `${kind} ${where} ${entry}`,
  );
}

test("checkPrograms() is content with both directions, and tells each that is missing, another's or doubled", () => {
  assert.deepEqual(found([at("in"), at("out")]), []);
  assert.deepEqual(found([]), ["missing veth5 ingress", "missing veth5 egress"]);
  assert.deepEqual(found([at("in"), at("out", { name: "ptl_net_out" })]), ["different veth5 egress"]);
  assert.deepEqual(found([at("in"), at("in", { position: 1 }), at("out")]), ["extra veth5 ingress"]);
  assert.deepEqual(found([at("in"), at("out"), at("in", { ifindex: 6 })]), ["extra veth6 ingress"]);
});

test("checkPrograms() tells who runs before ours, and not who runs after", () => {
  const other = { name: "cil_from", ours: false } as const;
  assert.deepEqual(found([at("in", other), at("in", { position: 1 }), at("out")]), ["order veth5 ingress"]);
  assert.deepEqual(found([at("in"), at("in", { ...other, position: 1 }), at("out")]), []);
  const clsact = { mode: "clsact" } as const;
  assert.deepEqual(
    found([at("in", other), at("in", clsact), at("out", clsact)]),
    ["order veth5 ingress"],
    "tcx runs before all of clsact",
  );
  assert.deepEqual(found([at("in"), at("in", { ...other, ...clsact }), at("out")]), []);
});

test("checkPrograms() tells a program of another build, and one that the agent has not loaded", () => {
  const both = [at("in"), at("out")];
  const tags = new Map([
    ["ptl_pod_in", "aa"],
    ["ptl_pod_out", "bb"],
  ]);
  assert.deepEqual(found(both, { tags, ids: null }), ["other build veth5 egress"]);
  assert.deepEqual(found(both, { tags: null, ids: new Set([11, 12]) }), []);
  assert.deepEqual(found(both, { tags: null, ids: new Set([12]) }), ["other build veth5 ingress"]);
});

const links = (): SocketLink[] =>
  SOCKET_HOOKS.map((hook, i) => ({
    hook,
    cgroupId: 7n,
    linkId: i,
    programId: 20 + i,
    name: `ptl_${hook}`,
    tag: "aa",
  }));

test("checkSockets() wants all eight hooks of the cgroup, or none, as the mode says", () => {
  const full = { mode: "full", cgroupId: 7n } as const;
  const kinds = (...args: Parameters<typeof checkSockets>): string[] =>
    checkSockets(...args).map(({ kind, entry }) => `${kind} ${entry}`);
  assert.deepEqual(kinds(links(), full, UNKNOWN), []);
  assert.deepEqual(kinds(links().slice(1), full, UNKNOWN), ["missing recvmsg4"]);
  assert.equal(kinds([], full, UNKNOWN).length, 8);
  assert.deepEqual(kinds([], null, UNKNOWN), [], "nobody says that there should be any");
  assert.deepEqual(kinds(links().slice(1), null, UNKNOWN), ["missing recvmsg4"], "but not some");
  assert.equal(kinds(links(), { mode: "off", cgroupId: null }, UNKNOWN).length, 8);
  const [first, ...rest] = links() as [SocketLink, ...SocketLink[]];
  const kindOf = (change: Partial<SocketLink>): string[] =>
    kinds([{ ...first, ...change }, ...rest], full, UNKNOWN);
  assert.deepEqual(kindOf({ cgroupId: 0n }), ["missing recvmsg4"], "a link of a cgroup that is gone");
  assert.deepEqual(kindOf({ cgroupId: 8n }), ["different recvmsg4"]);
  assert.deepEqual(kindOf({ name: "other" }), ["different recvmsg4"]);
});

function entry(role: Role, last = 1): Uint8Array {
  const masquerade4 = Uint8Array.of(10, 0, 0, last);
  return interfaceCodec.encode({ role, mtu: 0, masquerade4, masquerade6: new Uint8Array(16), flags: 0 });
}

test("checkInterfaceEntries() tells what is missing, extra, different, and of an interface that is gone", () => {
  const right = new Map([
    [0, entry(Role.NODE)],
    [5, entry(Role.POD)],
  ]);
  const kinds = (...args: Parameters<typeof checkInterfaceEntries>): object[] =>
    checkInterfaceEntries(...args).map(({ kind, entry: name, found: is, wanted }) => ({
      kind,
      name,
      is,
      wanted,
    }));
  assert.deepEqual(kinds(right, right, NAMES), []);
  assert.deepEqual(kinds(right, null, NAMES), []);
  const changed = new Map([
    [5, entry(Role.POD, 9)],
    [6, entry(Role.UPLINK)],
  ]);
  const all = kinds(changed, right, NAMES);
  assert.deepEqual(
    all.map((each) => Object.values(each).slice(0, 2).join(" ")),
    ["missing (this node)", "different veth5", "extra veth6"],
  );
  assert.deepEqual(all[1], {
    kind: "different",
    name: "veth5",
    is: { "masquerade IPv4": "10.0.0.9" },
    wanted: { "masquerade IPv4": "10.0.0.1" },
  });
  const [gone] = kinds(new Map([[77, entry(Role.POD)]]), null, NAMES);
  assert.deepEqual(Object.values(gone ?? {}).slice(0, 2), ["leaked", "interface 77"]);
  assert.deepEqual(expectedByMap(right, NAMES), [POD]);
});

test("checkPins() wants each map's pin, and that it is the map which the programs work on", () => {
  const pinned = new Map<string, number>(MAP_NAMES.map((name, i) => [name, i + 1]));
  assert.deepEqual(checkPins(pinned, new Map(), "/p"), []);
  const used = mapsOf([
    { maps: new Map([["nat4", 99]]), config: null },
    { maps: new Map([["portolan.rodata", 3]]), config: null },
  ]);
  pinned.delete("slots6");
  assert.deepEqual(
    checkPins(pinned, used, "/p").map(({ kind, entry: name, wanted }) => [kind, name, wanted?.map]),
    [
      ["different", "nat4", "id 99"],
      ["missing", "slots6", "slots6"],
    ],
  );
});

test("checkSettings() tells who was loaded with other settings than the rest", () => {
  const maps = new Map<string, number>();
  const config = (mark: number) => ({ maps, config: { mark } as never });
  const programs = new Map([
    ["eth0 in", config(1)],
    ["eth0 out", config(1)],
    ["veth5 in", config(2)],
  ]);
  assert.deepEqual(
    checkSettings(programs).map(({ where }) => where),
    ["veth5 in"],
  );
  assert.deepEqual(checkSettings(new Map()), []);
});

test("checkStalePins() knows every name of ours, and tells all others, other layouts and dead interfaces' links", () => {
  const root = mkdtempSync(join(tmpdir(), "portolan-pins-"));
  try {
    const directory = join(root, `v${LAYOUT_VERSION}`);
    mkdirSync(join(directory, "links"), { recursive: true });
    const pins = [
      ...MAP_NAMES,
      ...["5-in", "5-out", "5-clsact", "socket-connect4"].map((name) => `links/${name}`),
    ];
    for (const pin of pins) writeFileSync(join(directory, pin), "");
    assert.deepEqual(
      checkStalePins(root, () => true),
      [],
    );
    mkdirSync(join(root, "v1"));
    writeFileSync(join(directory, "mine"), "");
    writeFileSync(join(directory, "links", "what"), "");
    assert.deepEqual(
      checkStalePins(root, (ifindex) => ifindex !== 5).map(({ kind, entry: name }) => `${kind} ${name}`),
      ["extra v1", "extra mine", "leaked 5-clsact", "leaked 5-in", "leaked 5-out", "extra what"],
    );
  } finally {
    rmSync(root, { recursive: true });
  }
});
