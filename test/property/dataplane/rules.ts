// SPDX-License-Identifier: Apache-2.0
/**
 * The publish protocol's rules, checked on the raw contents of a kernel in memory after every single write. Written from
 * the rules (DESIGN.md, ideas 1 and 2) and not from the reconciler: it shares nothing with it but the generated codecs.
 */
import assert from "node:assert/strict";
import { AddressClass, BackendFlag, BackendState, Empty } from "../../../src/abi/enums.gen.js";
import { choiceTag, decodeChoice } from "../../../src/abi/hash.js";
import {
  addrPort4Codec,
  addrPort6Codec,
  backend4Codec,
  backend6Codec,
  frontendCodec,
  serviceNameCodec,
  trafficCodec,
} from "../../../src/abi/layout.gen.js";
import type { ChoiceImage, Image, ServicePortImage } from "../../../src/image/types.js";
import type { EntryWrite, MemoryKernel } from "../../../src/native/memory.js";
import type { Family, IpAddress } from "../../../src/net/ip.js";

const CODECS = {
  4: { addrPort: addrPort4Codec, backend: backend4Codec },
  6: { addrPort: addrPort6Codec, backend: backend6Codec },
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

interface Wanted {
  /** "4 <key> internal" -> set. */
  readonly sets: Map<string, string>;
  /** "4 <key>" -> class bits. */
  readonly addresses: Map<string, number>;
  /** "4 <service key> <addr:port> <flags>" */
  readonly cells: string[];
  readonly names: string[];
  readonly affinity: Map<string, number>;
}

function wantedOf(image: Image): Wanted {
  const wanted: Wanted = { sets: new Map(), addresses: new Map(), cells: [], names: [], affinity: new Map() };
  const add = (family: Family, key: string, bits: number): void => {
    const id = `${family} ${key}`;
    wanted.addresses.set(id, (wanted.addresses.get(id) ?? 0) | bits);
  };
  for (const port of image.servicePorts.values()) {
    const protocol = PROTOCOLS[port.protocol];
    const id = `${port.namespace}/${port.name}/${port.protocol}`;
    wanted.names.push(id);
    for (const { address, port: number, local } of port.backends) {
      const { family, bytes } = address;
      wanted.cells.push(`${family} ${id} ${hex(bytes)}:${number} ${local ? BackendFlag.BACKEND_LOCAL : 0}`);
      add(family, keyHex(family, bytes, 0, 0), AddressClass.CLASS_BACKEND);
      add(family, keyHex(family, bytes, number, protocol), AddressClass.CLASS_BACKEND_PORT);
    }
    for (const { address, port: number, internal, external } of port.frontends) {
      const { family, bytes } = address;
      const key = keyHex(family, bytes, number, protocol);
      wanted.sets.set(`${family} ${key} internal`, wantedSet(port, internal));
      wanted.sets.set(`${family} ${key} external`, wantedSet(port, external));
      wanted.affinity.set(`${family} ${key}`, port.affinitySeconds);
      add(family, keyHex(family, bytes, 0, 0), AddressClass.CLASS_VIP);
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
  const names = new Map<number, string>();
  for (const [key, value] of kernel.entries("services")) {
    const { namespaceName, name, protocol } = serviceNameCodec.decode(value);
    names.set(
      readU32(key),
      `${namespaceName}/${name}/${Object.entries(PROTOCOLS).find(([, number]) => number === protocol)?.[0]}`,
    );
  }
  assert.deepEqual([...names.values()].sort(), wanted.names.sort(), "names");
  const cells: string[] = [];
  for (const family of FAMILIES) {
    let index = 0;
    for (const [, value] of kernel.entries(`backends${family}`)) {
      const { addr, port, state, flags, service } = cellAt(kernel, family, index);
      assert.equal(value.length, CODECS[family].backend.size);
      if (state === BackendState.BACKEND_LIVE)
        cells.push(`${family} ${names.get(service)} ${addr}:${port} ${flags}`);
      index += 1;
    }
    for (const [key, value] of kernel.entries(`frontends${family}`)) {
      const { affinitySeconds, service } = frontendCodec.decode(value);
      assert.equal(affinitySeconds, wanted.affinity.get(`${family} ${hex(key)}`), "affinity");
      assert.ok(names.has(service), "a frontend's service index has a name");
    }
  }
  assert.deepEqual(cells.sort(), wanted.cells.sort(), "live cells");
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
  /** "4 <cell>:<generation>" of every cell that was ever live. */
  readonly #lives: Map<string, string> = new Map();
  readonly #live: Map<string, string> = new Map();
  #before: Map<string, string> = new Map();
  #after: Map<string, string> = new Map();
  #mayVanish = false;
  checks = 0;

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
    this.#checkHeld(kernel, readings, now);
    this.#checkGeneration(kernel, write);
  }

  /** Whatever a frontend offers is known by address: its own VIP, and each backend with and without its port. */
  #checkClasses(kernel: MemoryKernel, readings: ReadonlyMap<string, Reading>): void {
    const classes = addressesOf(kernel);
    for (const [id, { cells }] of readings) {
      const [family = "", key = ""] = id.split(" ");
      const addressLength = family === "4" ? 8 : 32;
      const vip = `${family} ${key.slice(0, addressLength)}00000000`;
      assert.ok((classes.get(vip) ?? 0) & AddressClass.CLASS_VIP, `${id}: no VIP class`);
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
    if (cell.state !== BackendState.BACKEND_LIVE) {
      this.#live.delete(id);
      return;
    }
    assert.ok(!this.#live.has(id), `cell ${index} was rewritten while it was live`);
    assert.ok(!this.#lives.has(life), `cell ${index} is live again with generation ${cell.generation}`);
    const stats = trafficCodec.decode(kernel.get(`backend_stats${family}`, key) as Uint8Array);
    assert.deepEqual(
      stats,
      { flows: 0n, packets: 0n, bytes: 0n },
      `cell ${index} starts with the counts of another`,
    );
    this.#lives.set(life, owner);
    this.#live.set(id, owner);
  }
}

function assertStillReadable(kernel: MemoryKernel, { family, reading }: Held, id: string): void {
  for (const [slot, cell] of reading.slots) {
    const now = readU32(kernel.get(`slots${family}`, u32(slot)) as Uint8Array);
    assert.equal(now, cell, `${id}: slot ${slot} was rewritten while a reader could hold its word`);
  }
  for (const [index, then] of reading.cells) {
    const now = cellAt(kernel, family, index);
    const same = { ...now, state: then.state, generation: then.generation };
    assert.deepEqual(same, then, `${id}: cell ${index} became another backend while a reader could hold it`);
    const grown = now.state === BackendState.BACKEND_LIVE ? 0 : 1;
    assert.equal(now.generation, then.generation + grown, `${id}: generation of cell ${index}`);
  }
}
