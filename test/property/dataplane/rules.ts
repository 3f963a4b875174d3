// SPDX-License-Identifier: Apache-2.0
/**
 * The publish protocol's rules, checked on the raw contents of a kernel in memory after every single write. Written from
 * the rules (docs/design/README.md, ideas 1 and 2) and not from the reconciler: it shares nothing with it but the generated codecs.
 */
import assert from "node:assert/strict";
import { AddressClass, BackendFlag, BackendState, Empty, FrontendFlag } from "../../../src/abi/enums.gen.js";
import { choiceTag, decodeChoice } from "../../../src/abi/hash.js";
import {
  addrPort4Codec,
  addrPort6Codec,
  backend4Codec,
  backend6Codec,
  frontendCodec,
  network4Codec,
  network6Codec,
  serviceNameCodec,
  sourceRange4Codec,
  sourceRange6Codec,
  trafficCodec,
} from "../../../src/abi/layout.gen.js";
import type { ChoiceImage, FrontendImage, Image, ServicePortImage } from "../../../src/image/types.js";
import type { EntryWrite, MemoryKernel } from "../../../src/native/memory.js";
import { type Cidr, cidrContains, cidrOf } from "../../../src/net/cidr.js";
import { type Family, type IpAddress, ipFromBytes } from "../../../src/net/ip.js";

const CODECS = {
  4: {
    addrPort: addrPort4Codec,
    backend: backend4Codec,
    sourceRange: sourceRange4Codec,
    network: network4Codec,
  },
  6: {
    addrPort: addrPort6Codec,
    backend: backend6Codec,
    sourceRange: sourceRange6Codec,
    network: network6Codec,
  },
};
const PROTOCOLS = { TCP: 6, UDP: 17, SCTP: 132 };
const FAMILIES = [4, 6] as const;

const u32 = (value: number): Uint8Array => new Uint8Array(Uint32Array.of(value).buffer);
const readU32 = (bytes: Uint8Array): number =>
  new DataView(bytes.buffer, bytes.byteOffset).getUint32(0, true);
const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");

interface Cell {
  readonly addr: string;
  readonly port: number;
  readonly state: number;
  readonly flags: number;
  readonly generation: number;
  readonly service: number;
}

export function cellAt(kernel: MemoryKernel, family: Family, index: number): Cell {
  const bytes = kernel.get(`backends${family}`, u32(index));
  assert.ok(bytes, `cell ${index} of backends${family} is outside of the map`);
  const cell = CODECS[family].backend.decode(bytes);
  return { ...cell, addr: hex(cell.addr) };
}

/** One scope of one frontend, followed to the end at one moment. */
interface Reading {
  readonly word: bigint;
  readonly service: number;
  /** "addr:port" of each backend, sorted; or what happens instead. */
  readonly set: string;
  readonly slots: readonly (readonly [slot: number, cell: number])[];
  readonly cells: readonly (readonly [index: number, cell: Cell])[];
}

function follow(
  kernel: MemoryKernel,
  family: Family,
  key: Uint8Array,
  value: Uint8Array,
  scope: "internal" | "external",
): Reading {
  const frontend = frontendCodec.decode(value);
  const word = frontend[scope];
  const { tag, count, base } = decodeChoice(word);
  const where = `frontend ${hex(key)} ${scope}`;
  assert.equal(tag, choiceTag(key), `${where}: wrong tag`);
  if (count === 0) {
    assert.ok(base === Empty.REJECT || base === Empty.DROP, `${where}: unknown empty ${base}`);
    return {
      word,
      service: frontend.service,
      set: base === Empty.REJECT ? "reject" : "drop",
      slots: [],
      cells: [],
    };
  }
  const slots: [number, number][] = [];
  const cells: [number, Cell][] = [];
  for (let slot = base; slot < base + count; slot++) {
    const bytes = kernel.get(`slots${family}`, u32(slot));
    assert.ok(bytes, `${where}: slot ${slot} is outside of the map`);
    const index = readU32(bytes);
    const cell = cellAt(kernel, family, index);
    assert.equal(cell.state, BackendState.BACKEND_LIVE, `${where}: slot ${slot} names free cell ${index}`);
    assert.equal(cell.service, frontend.service, `${where}: cell ${index} is another service's`);
    slots.push([slot, index]);
    cells.push([index, cell]);
  }
  const set = cells.map(([, { addr, port }]) => `${addr}:${port}`).sort();
  assert.equal(new Set(set).size, set.length, `${where}: names a backend twice`);
  return { word, service: frontend.service, set: set.join(" "), slots, cells };
}

function textOf(address: IpAddress): string {
  return hex(address.bytes);
}

function wantedSet(port: ServicePortImage, { backends, whenEmpty }: ChoiceImage): string {
  if (backends.length === 0) return whenEmpty;
  return backends
    .map((i) => port.backends[i])
    .map((backend) => (backend ? `${textOf(backend.address)}:${backend.port}` : "?"))
    .sort()
    .join(" ");
}

function keyHex(family: Family, addr: Uint8Array, port: number, protocol: number): string {
  return hex(CODECS[family].addrPort.encode({ addr, port, protocol }));
}

/** Restated from abi.h. */
function wantedFlags({ kind, internal, external, masquerade, sourceRanged }: FrontendImage): number {
  return (
    (kind === "ClusterIP" ? FrontendFlag.FRONTEND_CLUSTER_IP : 0) +
    (kind === "NodePort" ? FrontendFlag.FRONTEND_NODE_PORT : 0) +
    {
      never: 0,
      always: FrontendFlag.FRONTEND_MASQUERADE,
      outsiders: FrontendFlag.FRONTEND_MASQUERADE_OUTSIDERS,
    }[masquerade] +
    (sourceRanged ? FrontendFlag.FRONTEND_SOURCE_RANGES : 0) +
    (internal.set === "local" ? FrontendFlag.FRONTEND_INTERNAL_LOCAL : 0) +
    (external.set === "local" ? FrontendFlag.FRONTEND_EXTERNAL_LOCAL : 0)
  );
}

interface Wanted {
  /** "4 <key> internal" -> set. */
  readonly sets: Map<string, string>;
  /** "4 <key>" -> class bits. */
  readonly addresses: Map<string, number>;
  /** "4 <service key> <addr:port>" -> "<flags> <state>" */
  readonly cells: Map<string, string>;
  readonly names: string[];
  /** "4 <key>" -> "<affinity> <flags>" */
  readonly settings: Map<string, string>;
  /** "4 <service key> <range>" */
  readonly ranges: string[];
  readonly nets: string[];
}

function wantedOf(image: Image): Wanted {
  const wanted: Wanted = {
    sets: new Map(),
    addresses: new Map(),
    cells: new Map(),
    names: [],
    settings: new Map(),
    ranges: [],
    nets: image.serviceNetworks.map(({ family, text }) => `${family} ${text}`),
  };
  const add = (family: Family, key: string, bits: number): void => {
    const id = `${family} ${key}`;
    wanted.addresses.set(id, (wanted.addresses.get(id) ?? 0) | bits);
  };
  for (const { family, bytes } of image.nodePortAddresses)
    add(family, keyHex(family, bytes, 0, 0), AddressClass.CLASS_NODE);
  for (const port of image.servicePorts.values()) {
    const protocol = PROTOCOLS[port.protocol];
    const id = `${port.namespace}/${port.name}/${port.protocol}`;
    wanted.names.push(id);
    for (const { family, text } of port.sourceRanges) wanted.ranges.push(`${family} ${id} ${text}`);
    for (const { address, port: number, local, serving, clusterSet, localSet } of port.backends) {
      const { family, bytes } = address;
      const flags =
        (local ? BackendFlag.BACKEND_LOCAL : 0) +
        (clusterSet ? BackendFlag.BACKEND_CLUSTER_SET : 0) +
        (localSet ? BackendFlag.BACKEND_LOCAL_SET : 0);
      const state = serving ? BackendState.BACKEND_LIVE : BackendState.BACKEND_DRAINING;
      wanted.cells.set(`${family} ${id} ${hex(bytes)}:${number}`, `${flags} ${state}`);
      add(family, keyHex(family, bytes, 0, 0), AddressClass.CLASS_BACKEND);
      add(family, keyHex(family, bytes, number, protocol), AddressClass.CLASS_BACKEND_PORT);
    }
    for (const frontend of port.frontends) {
      const { kind, address, port: number, internal, external } = frontend;
      const { family, bytes } = address;
      const key = keyHex(family, bytes, number, protocol);
      wanted.sets.set(`${family} ${key} internal`, wantedSet(port, internal));
      wanted.sets.set(`${family} ${key} external`, wantedSet(port, external));
      wanted.settings.set(`${family} ${key}`, `${port.affinitySeconds} ${wantedFlags(frontend)}`);
      if (kind === "NodePort") continue;
      const bits = kind === "ClusterIP" ? AddressClass.CLASS_VIP | AddressClass.CLASS_CLUSTER_IP : 0;
      add(family, keyHex(family, bytes, 0, 0), bits | AddressClass.CLASS_VIP);
    }
  }
  return wanted;
}

function addressesOf(kernel: MemoryKernel): Map<string, number> {
  const found = new Map<string, number>();
  for (const family of FAMILIES)
    for (const [key, value] of kernel.entries(`addresses${family}`))
      found.set(`${family} ${hex(key)}`, readU32(value));
  return found;
}

const rangeOf = (addr: Uint8Array, length: number): Cidr => cidrOf(ipFromBytes(addr), length);

interface SourceRange {
  readonly service: number;
  readonly range: Cidr;
}

function rangesOf(kernel: MemoryKernel, family: Family): SourceRange[] {
  return [...kernel.entries(`source_ranges${family}`)].map(([key, value]) => {
    const { prefixLength, service, addr } = CODECS[family].sourceRange.decode(key);
    assert.equal(readU32(value), 1);
    return { service, range: rangeOf(addr, prefixLength - 32) };
  });
}

function netsOf(kernel: MemoryKernel, family: Family): Cidr[] {
  return [...kernel.entries(`service_nets${family}`)].map(([key, value]) => {
    const { prefixLength, addr } = CODECS[family].network.decode(key);
    assert.equal(readU32(value), 1);
    return rangeOf(addr, prefixLength);
  });
}

function namesOf(kernel: MemoryKernel): Map<number, string> {
  const names = new Map<number, string>();
  for (const [key, value] of kernel.entries("services")) {
    const { namespaceName, name, protocol } = serviceNameCodec.decode(value);
    const text = Object.entries(PROTOCOLS).find(([, number]) => number === protocol)?.[0];
    names.set(readU32(key), `${namespaceName}/${name}/${text}`);
  }
  return names;
}

/** Every scope of every frontend, by "4 <key> internal". Throws when one of them breaks the rules. */
export function readAll(kernel: MemoryKernel): Map<string, Reading> {
  const readings = new Map<string, Reading>();
  for (const family of FAMILIES) {
    for (const [key, value] of kernel.entries(`frontends${family}`)) {
      for (const scope of ["internal", "external"] as const)
        readings.set(`${family} ${hex(key)} ${scope}`, follow(kernel, family, key, value, scope));
    }
  }
  return readings;
}

/** The same without those that break the rules: what they offer, by "4 <key> internal". */
export function readSound(kernel: MemoryKernel): Map<string, string> {
  const sets = new Map<string, string>();
  for (const family of FAMILIES) {
    for (const [key, value] of kernel.entries(`frontends${family}`)) {
      for (const scope of ["internal", "external"] as const) {
        try {
          sets.set(`${family} ${hex(key)} ${scope}`, follow(kernel, family, key, value, scope).set);
        } catch {
          // Broken: it offers nothing that anybody could count on.
        }
      }
    }
  }
  return sets;
}

/** The kernel holds exactly what the image asks for, and nothing else is live or named. */
export function assertExactly(kernel: MemoryKernel, image: Image): void {
  const wanted = wantedOf(image);
  const readings = readAll(kernel);
  const sets = new Map([...readings].map(([id, { set }]) => [id, set]));
  assert.deepEqual(new Map([...sets].sort()), new Map([...wanted.sets].sort()), "choices");
  assert.deepEqual(
    new Map([...addressesOf(kernel)].sort()),
    new Map([...wanted.addresses].sort()),
    "addresses",
  );
  const names = namesOf(kernel);
  assert.deepEqual([...names.values()].sort(), wanted.names.sort(), "names");
  const cells = new Map<string, string>();
  const ranges: string[] = [];
  const nets: string[] = [];
  const settings = new Map<string, string>();
  for (const family of FAMILIES) {
    let index = 0;
    for (const [, value] of kernel.entries(`backends${family}`)) {
      const { addr, port, state, flags, service } = cellAt(kernel, family, index);
      assert.equal(value.length, CODECS[family].backend.size);
      if (state !== BackendState.BACKEND_FREE) {
        const id = `${family} ${names.get(service)} ${addr}:${port}`;
        assert.ok(!cells.has(id), `${id}: two cells`);
        cells.set(id, `${flags} ${state}`);
      }
      index += 1;
    }
    for (const [key, value] of kernel.entries(`frontends${family}`)) {
      const { affinitySeconds, service, flags } = frontendCodec.decode(value);
      settings.set(`${family} ${hex(key)}`, `${affinitySeconds} ${flags}`);
      assert.ok(names.has(service), "a frontend's service index has a name");
    }
    for (const { service, range } of rangesOf(kernel, family))
      ranges.push(`${family} ${names.get(service)} ${range.text}`);
    nets.push(...netsOf(kernel, family).map(({ text }) => `${family} ${text}`));
  }
  const sorted = (map: ReadonlyMap<string, string>): Map<string, string> => new Map([...map].sort());
  assert.deepEqual(sorted(settings), sorted(wanted.settings), "affinity and flags");
  assert.deepEqual(sorted(cells), sorted(wanted.cells), "cells");
  assert.deepEqual(ranges.sort(), wanted.ranges.sort(), "source ranges");
  assert.deepEqual(nets.sort(), wanted.nets.sort(), "service networks");
}

/** Clients whose luck with source ranges is watched. */
const CLIENTS: Readonly<Record<Family, readonly IpAddress[]>> = {
  4: [ip4(10, 244, 1, 3), ip4(10, 9, 9, 9), ip4(192, 0, 2, 77), ip4(8, 8, 8, 8)],
  6: [ip6(0xfd00, 0x244, 3), ip6(0xfd00, 1, 1), ip6(0x2001, 0xdb8, 1), ip6(0x2a00, 1, 1)],
};

function clientNamed(text: string): IpAddress {
  const client = [...CLIENTS[4], ...CLIENTS[6]].find((each) => each.text === text);
  assert.ok(client);
  return client;
}

function ip4(...bytes: readonly number[]): IpAddress {
  return ipFromBytes(Uint8Array.from(bytes));
}

function ip6(first: number, second: number, last: number): IpAddress {
  const bytes = new Uint8Array(16);
  bytes.set([first >> 8, first & 0xff, second >> 8, second & 0xff]);
  bytes[15] = last;
  return ipFromBytes(bytes);
}

/** Which clients each frontend lets in: "4 <key> <client>" -> "in" or "out". */
function admissionsOf(kernel: MemoryKernel): Map<string, string> {
  const admissions = new Map<string, string>();
  for (const family of FAMILIES) {
    const ranges = rangesOf(kernel, family);
    for (const [key, value] of kernel.entries(`frontends${family}`)) {
      const { service, flags } = frontendCodec.decode(value);
      const asks = (flags & FrontendFlag.FRONTEND_SOURCE_RANGES) !== 0;
      const own = ranges.filter((range) => range.service === service);
      for (const client of CLIENTS[family]) {
        const isIn = !asks || own.some(({ range }) => cidrContains(range, client));
        admissions.set(`${family} ${hex(key)} ${client.text}`, isIn ? "in" : "out");
      }
    }
  }
  return admissions;
}

function wantedAdmissions(image: Image): Map<string, string> {
  const admissions = new Map<string, string>();
  for (const { protocol, frontends, sourceRanges } of image.servicePorts.values()) {
    for (const { address, port, sourceRanged } of frontends) {
      const key = keyHex(address.family, address.bytes, port, PROTOCOLS[protocol]);
      for (const client of CLIENTS[address.family]) {
        const isIn = !sourceRanged || sourceRanges.some((range) => cidrContains(range, client));
        admissions.set(`${address.family} ${key} ${client.text}`, isIn ? "in" : "out");
      }
    }
  }
  return admissions;
}

function valuesOf(kernel: MemoryKernel): Map<string, string> {
  const values = new Map<string, string>();
  for (const family of FAMILIES)
    for (const [key, value] of kernel.entries(`frontends${family}`))
      values.set(`${family} ${hex(key)}`, hex(value));
  return values;
}

/** What a transaction starts from and leads to, beside the sets. */
interface Frame {
  readonly admissionsBefore: ReadonlyMap<string, string>;
  readonly admissionsAfter: ReadonlyMap<string, string>;
  /** The old list and the new one, by "namespace/name/PROTOCOL". */
  readonly lists: ReadonlyMap<string, readonly Cidr[]>;
  readonly netsBefore: ReadonlySet<string>;
  readonly clusterIps: readonly IpAddress[];
  /** Raw frontends, and "4 <cell>:<generation>" -> flags. */
  readonly values: ReadonlyMap<string, string>;
  readonly flagsBefore: ReadonlyMap<string, number>;
  readonly cellsAfter: ReadonlyMap<string, string>;
}

function frameOf(kernel: MemoryKernel, image: Image): Frame {
  const flagsBefore = new Map<string, number>();
  const netsBefore = new Set<string>();
  const lists = new Map<string, Cidr[]>();
  const names = namesOf(kernel);
  for (const { namespace, name, protocol, sourceRanges } of image.servicePorts.values())
    lists.set(`${namespace}/${name}/${protocol}`, [...sourceRanges]);
  for (const family of FAMILIES) {
    for (const { text } of netsOf(kernel, family)) netsBefore.add(text);
    for (const { service, range } of rangesOf(kernel, family))
      lists.set(names.get(service) ?? "", [...(lists.get(names.get(service) ?? "") ?? []), range]);
    let index = 0;
    for (const _ of kernel.entries(`backends${family}`)) {
      const { flags, generation } = cellAt(kernel, family, index);
      flagsBefore.set(`${family} ${index}:${generation}`, flags);
      index += 1;
    }
  }
  return {
    admissionsBefore: admissionsOf(kernel),
    admissionsAfter: wantedAdmissions(image),
    lists,
    netsBefore,
    clusterIps: [...image.servicePorts.values()].flatMap(({ frontends }) =>
      frontends.filter(({ kind }) => kind === "ClusterIP").map(({ address }) => address),
    ),
    values: valuesOf(kernel),
    flagsBefore,
    cellsAfter: wantedOf(image).cells,
  };
}

interface Held {
  readonly family: Family;
  readonly reading: Reading;
  /** Milliseconds after which no packet can be using it; null while it is current. */
  until: number | null;
}

/**
 * Watches a kernel. Between begin() and end() of a transaction every reader must get the old set or the new one, and whoever
 * has read a word may follow it to the same backends until a second after it was replaced.
 */
export class RuleWatcher {
  readonly #quarantineMs: number;
  readonly #held: Map<string, Held> = new Map();
  /** "4 <cell>:<generation>" of every cell that was ever in use. */
  readonly #lives: Map<string, string> = new Map();
  readonly #live: Map<string, string> = new Map();
  #before: Map<string, string> = new Map();
  #after: Map<string, string> = new Map();
  #frame: Frame | null = null;
  #mayVanish = false;
  checks = 0;
  /** How often a frontend met a cell whose sets were about to change, and a client whose admission was. */
  setChecks = 0;
  admissionChecks = 0;

  constructor(quarantineMs: number) {
    this.#quarantineMs = quarantineMs;
  }

  /**
   * `mayVanish`: a frontend that moves to a port which is then refused goes; nobody it could belong to is there.
   */
  begin(kernel: MemoryKernel, image: Image, mayVanish = false): void {
    this.#mayVanish = mayVanish;
    this.#before = new Map([...readAll(kernel)].map(([id, { set }]) => [id, set]));
    this.#after = wantedOf(image).sets;
    this.#frame = frameOf(kernel, image);
  }

  /** After one write. */
  check(kernel: MemoryKernel, write: EntryWrite, now: number): void {
    this.checks += 1;
    const readings = readAll(kernel);
    for (const id of new Set([...readings.keys(), ...this.#before.keys()])) {
      const set = readings.get(id)?.set;
      assert.ok(
        set === this.#before.get(id) || set === this.#after.get(id) || (this.#mayVanish && set === undefined),
        `${id}: a reader gets "${set}", neither the old "${this.#before.get(id)}" nor the new "${this.#after.get(id)}"`,
      );
    }
    this.#checkClasses(kernel, readings);
    if (/^(frontends|source_ranges)/.test(write.map)) this.#checkAdmissions(kernel);
    if (/^(frontends|backends)/.test(write.map)) this.#checkSets(kernel, readings);
    if (/^(addresses|service_nets)/.test(write.map)) this.#checkNetworks(kernel);
    this.#checkHeld(kernel, readings, now);
    this.#checkGeneration(kernel, write);
  }

  /** Whatever a frontend offers is known by address: its own VIP, and each backend with and without its port. */
  #checkClasses(kernel: MemoryKernel, readings: ReadonlyMap<string, Reading>): void {
    const classes = addressesOf(kernel);
    for (const [id, { cells }] of readings) {
      const [family = "", key = ""] = id.split(" ");
      const addressLength = family === "4" ? 8 : 32;
      const address = key.slice(0, addressLength);
      const held = classes.get(`${family} ${address}00000000`) ?? 0;
      const flags = frontendCodec.decode(
        kernel.get(`frontends${family === "4" ? 4 : 6}`, Buffer.from(key, "hex")) as Uint8Array,
      ).flags;
      if (flags & FrontendFlag.FRONTEND_NODE_PORT) {
        assert.match(address, /^0+$/, `${id}: a NodePort has an address`);
        assert.equal(held, 0, `${id}: the address zero has a class`);
      } else assert.ok(held & AddressClass.CLASS_VIP, `${id}: no VIP class`);
      if (flags & FrontendFlag.FRONTEND_CLUSTER_IP)
        assert.ok(held & AddressClass.CLASS_CLUSTER_IP, `${id}: no class ClusterIP`);
      for (const [index, { addr, port }] of cells) {
        assert.ok(
          (classes.get(`${family} ${addr}00000000`) ?? 0) & AddressClass.CLASS_BACKEND,
          `cell ${index}: no class`,
        );
        const protocol = key.slice(addressLength + 4, addressLength + 6);
        const full = `${family} ${addr}${port.toString(16).padStart(4, "0")}${protocol}00`;
        assert.equal(classes.get(full), AddressClass.CLASS_BACKEND_PORT, `cell ${index}: no port class`);
      }
    }
  }

  /**
   * Whoever was let in and will be is let in. Nobody else is, but for those on one of its Service's lists: a frontend that is
   * about to go sees the new one already, one that has just come still the old one.
   */
  #checkAdmissions(kernel: MemoryKernel): void {
    const { admissionsBefore, admissionsAfter, lists } = this.#frame as Frame;
    const names = namesOf(kernel);
    for (const [id, now] of admissionsOf(kernel)) {
      const known = [admissionsBefore.get(id), admissionsAfter.get(id)];
      this.admissionChecks += Number(known[0] !== known[1]);
      if (known.includes(now)) continue;
      const [family = "", key = "", client = ""] = id.split(" ");
      const value = kernel.get(`frontends${family === "4" ? 4 : 6}`, Buffer.from(key, "hex"));
      const name = names.get(frontendCodec.decode(value as Uint8Array).service) ?? "";
      const isListed = lists.get(name)?.some((range) => cidrContains(range, clientNamed(client)));
      assert.ok(now === "in" && isListed, `${id}: ${now}, before ${known[0]}, after ${known[1]}`);
    }
  }

  /**
   * Session affinity keeps a client at a backend that is in the set: as long as a frontend offers what it will not offer any
   * more, its cells are in the sets in which they were, and from the moment on when it offers something new in the new ones.
   */
  #checkSets(kernel: MemoryKernel, readings: ReadonlyMap<string, Reading>): void {
    const { values, flagsBefore, cellsAfter } = this.#frame as Frame;
    const names = namesOf(kernel);
    const now = valuesOf(kernel);
    for (const [id, { cells, service }] of readings) {
      const frontend = id.slice(0, id.lastIndexOf(" "));
      const isOld = now.get(frontend) === values.get(frontend);
      if (isOld && this.#before.get(id) === this.#after.get(id)) continue;
      const [family = ""] = id.split(" ");
      for (const [index, { addr, port, flags, generation }] of cells) {
        const after = cellsAfter.get(`${family} ${names.get(service)} ${addr}:${port}`)?.split(" ")[0];
        const before = flagsBefore.get(`${family} ${index}:${generation}`);
        const needed = Number((isOld ? before : after) ?? 0);
        assert.equal(flags & needed, needed, `${id}: cell ${index} is not in the set of its frontend`);
        this.setChecks += Number(before !== undefined && after !== undefined && before !== Number(after));
      }
    }
  }

  /** A range of ClusterIPs comes when all of them are known: those without a class are dropped. */
  #checkNetworks(kernel: MemoryKernel): void {
    const { netsBefore, clusterIps } = this.#frame as Frame;
    if (this.#mayVanish) return;
    const classes = addressesOf(kernel);
    for (const family of FAMILIES) {
      const nets = netsOf(kernel, family).filter(({ text }) => !netsBefore.has(text));
      for (const address of clusterIps) {
        if (!nets.some((net) => cidrContains(net, address))) continue;
        const id = `${family} ${keyHex(family, address.bytes, 0, 0)}`;
        assert.ok(classes.has(id), `${address.text}: dropped before it is known`);
      }
    }
  }

  #checkHeld(kernel: MemoryKernel, readings: ReadonlyMap<string, Reading>, now: number): void {
    for (const [id, held] of this.#held) {
      const current = held.until === null;
      if (current && readings.get(id.slice(0, id.lastIndexOf(" ")))?.word !== held.reading.word)
        held.until = now + this.#quarantineMs;
      if (held.until !== null && now >= held.until) this.#held.delete(id);
      else assertStillReadable(kernel, held, id);
    }
    for (const [id, reading] of readings) {
      const family: Family = id.startsWith("4") ? 4 : 6;
      const heldId = `${id} ${reading.word}`;
      const known = this.#held.get(heldId);
      if (known && known.until === null) continue;
      this.#held.set(heldId, { family, reading, until: null });
    }
  }

  /** A generation of a cell stands for one backend, once and for ever. */
  #checkGeneration(kernel: MemoryKernel, { map, key }: EntryWrite): void {
    if (map !== "backends4" && map !== "backends6") return;
    const family: Family = map === "backends4" ? 4 : 6;
    const index = readU32(key);
    const cell = cellAt(kernel, family, index);
    const id = `${family} ${index}`;
    const life = `${id}:${cell.generation}`;
    const owner = `${cell.service} ${cell.addr}:${cell.port}`;
    if (cell.state === BackendState.BACKEND_FREE) {
      this.#live.delete(id);
      return;
    }
    const current = this.#live.get(id);
    if (current !== undefined) {
      assert.equal(`${life} ${owner}`, current, `cell ${index} was rewritten while it was in use`);
      return;
    }
    assert.ok(!this.#lives.has(life), `cell ${index} is live again with generation ${cell.generation}`);
    const stats = trafficCodec.decode(kernel.get(`backend_stats${family}`, key) as Uint8Array);
    assert.deepEqual(
      stats,
      { flows: 0n, packets: 0n, bytes: 0n },
      `cell ${index} starts with the counts of another`,
    );
    this.#lives.set(life, owner);
    this.#live.set(id, `${life} ${owner}`);
  }
}

function assertStillReadable(kernel: MemoryKernel, { family, reading }: Held, id: string): void {
  for (const [slot, cell] of reading.slots) {
    const now = readU32(kernel.get(`slots${family}`, u32(slot)) as Uint8Array);
    assert.equal(now, cell, `${id}: slot ${slot} was rewritten while a reader could hold its word`);
  }
  for (const [index, then] of reading.cells) {
    const now = cellAt(kernel, family, index);
    const same = { ...now, state: then.state, flags: then.flags, generation: then.generation };
    assert.deepEqual(same, then, `${id}: cell ${index} became another backend while a reader could hold it`);
    const grown = now.state === BackendState.BACKEND_FREE ? 1 : 0;
    assert.equal(now.generation, then.generation + grown, `${id}: generation of cell ${index}`);
  }
}
