// SPDX-License-Identifier: Apache-2.0
/**
 * Entries of the maps that the agent writes, in words: what an entry is called, and what it says, member by member. Names
 * stand for service indexes, addresses for cells. Believes nothing: a word that makes no sense is told as it is.
 */
import { AddressClass, BackendFlag, BackendState, Empty, FrontendFlag } from "../abi/enums.gen.js";
import { choiceTag, decodeChoice } from "../abi/hash.js";
import { FAMILY_CODECS, frontendCodec, serviceNameCodec } from "../abi/layout.gen.js";
import type { MapName } from "../abi/maps.gen.js";
import { type Family, ipFromBytes } from "../net/ip.js";
import { formatAddressPort, protocolOfNumber } from "../net/port.js";
import {
  addrPortName,
  bytesOf,
  LAYOUTS,
  masqueradeOf,
  PRESENT,
  readNetwork,
  readSourceRange,
} from "./keys.js";
import type { FamilyMirror, Mirror } from "./mirror.js";
import { setsOf } from "./view/backends.js";
import { frontendKindName } from "./view/services.js";

/** What an entry says, by member. */
export type EntryFields = Readonly<Record<string, string>>;

/** Maps whose entries are told one by one; slots are told by the frontends that name them. */
export type EntryMap = Exclude<MapName, `slots${Family}` | `backend_stats${Family}`>;

/** How a service index is called. */
export type NameOf = (index: number) => string;

const familyOf = (map: MapName): Family => (map.endsWith("6") ? 6 : 4);

/** A number as C writes it into a key or a value. */
const u32 = (text: string, at = 0): number => bytesOf(text).readUInt32LE(at);

/** "namespace/name:port/PROTOCOL" of a struct service_name, as ServicePortImage.key. */
export function servicePortName(name: string): string {
  const { namespaceName, name: service, portName, protocol } = serviceNameCodec.decode(bytesOf(name));
  return `${namespaceName}/${service}:${portName}/${protocolOfNumber(protocol) ?? protocol}`;
}

/** What an entry is called: "10.96.0.10:53/UDP", "cell 12", "10.0.0.0/8", "index 3". */
export function entryName(map: MapName, key: string): string {
  const family = familyOf(map);
  switch (map) {
    case "frontends4":
    case "frontends6":
      return `${addrPortName(family, key)}/${protocolText(family, key)}`;
    case "addresses4":
    case "addresses6": {
      const { address, protocol } = LAYOUTS[family];
      if (key.charCodeAt(protocol) !== 0 || key.slice(address, address + 2) !== "\0\0")
        return `${addrPortName(family, key)}/${protocolText(family, key)}`;
      return ipFromBytes(bytesOf(key).subarray(0, address)).text;
    }
    case "source_ranges4":
    case "source_ranges6":
      return readSourceRange(key).range.text;
    case "service_nets4":
    case "service_nets6":
      return readNetwork(key).text;
    case "backends4":
    case "backends6":
      return `cell ${u32(key)}`;
    default:
      return `index ${u32(key)}`;
  }
}

function protocolText(family: Family, key: string): string {
  const number = key.charCodeAt(LAYOUTS[family].protocol);
  return protocolOfNumber(number) ?? String(number);
}

/** The service index that an entry belongs to; null: it belongs to the node, or to no one service port. */
export function serviceOf(map: MapName, key: string, value: string): number | null {
  switch (map) {
    case "frontends4":
    case "frontends6":
      return frontendCodec.decode(bytesOf(value)).service;
    case "backends4":
    case "backends6":
      return u32(value, LAYOUTS[familyOf(map)].service);
    case "source_ranges4":
    case "source_ranges6":
      return readSourceRange(key).service;
    case "services":
      return u32(key);
    default:
      return null;
  }
}

/** The value of an entry as the mirror has it; null: there is none. A cell is there when it is not free. */
export function valueIn(mirror: Mirror, map: MapName, key: string): string | null {
  if (map === "services") return mirror.names.get(u32(key)) ?? null;
  const family = familyOf(map);
  const { frontends, addresses, sourceRanges, serviceNets, cells } = mirror.families[family];
  switch (map) {
    case "frontends4":
    case "frontends6":
      return frontends.get(key) ?? null;
    case "source_ranges4":
    case "source_ranges6":
      return sourceRanges.get(key) ?? null;
    case "service_nets4":
    case "service_nets6":
      return serviceNets.get(key) ?? null;
    case "addresses4":
    case "addresses6": {
      const classes = addresses.rawClasses(key);
      return classes === undefined ? null : `${String.fromCharCode(classes)}\0\0\0`;
    }
    case "backends4":
    case "backends6": {
      const { cell: size, state } = LAYOUTS[family];
      const at = u32(key) * size;
      if (cells[at + state] === BackendState.BACKEND_FREE) return null;
      return cells.toString("latin1", at, at + size);
    }
    default:
      return null;
  }
}

/** What an entry of this value says. Words and cells are looked up in `mirror`. */
export function entryFields(
  mirror: Mirror,
  map: MapName,
  key: string,
  value: string,
  nameOf: NameOf,
): EntryFields {
  const family = familyOf(map);
  switch (map) {
    case "services":
      return { name: servicePortName(value) };
    case "frontends4":
    case "frontends6":
      return frontendFields(mirror.families[family], key, value, nameOf);
    case "backends4":
    case "backends6":
      return cellFields(family, value, nameOf);
    case "addresses4":
    case "addresses6":
      return { classes: classesText(value.charCodeAt(0)) };
    default:
      return value === PRESENT ? {} : { value: bytesOf(value).toString("hex") };
  }
}

const CLASS_NAMES: readonly (readonly [number, string])[] = [
  [AddressClass.CLASS_VIP, "VIP"],
  [AddressClass.CLASS_CLUSTER_IP, "ClusterIP"],
  [AddressClass.CLASS_NODE, "NodePort address"],
  [AddressClass.CLASS_BACKEND, "backend"],
  [AddressClass.CLASS_BACKEND_PORT, "backend's port"],
];

/** Of AddressTable: whatever is no class of ours. */
const FOREIGN = 32;

function classesText(classes: number): string {
  const names = CLASS_NAMES.filter(([bit]) => classes & bit).map(([, name]) => name);
  return [...names, ...(classes >= FOREIGN ? ["unknown bits"] : [])].join(", ") || "none";
}

function stateText(state: number): string {
  switch (state) {
    case BackendState.BACKEND_FREE:
      return "free";
    case BackendState.BACKEND_LIVE:
      return "live";
    case BackendState.BACKEND_DRAINING:
      return "draining";
    default:
      return `unknown (${state})`;
  }
}

function cellAddress(family: Family, bytes: Buffer): string {
  const { address, port } = LAYOUTS[family];
  return formatAddressPort(ipFromBytes(bytes.subarray(0, address)), bytes.readUInt16BE(port));
}

function cellFields(family: Family, value: string, nameOf: NameOf): EntryFields {
  const { backend } = FAMILY_CODECS[family];
  const bytes = bytesOf(value);
  const { state, flags, generation, service } = backend.decode(bytes);
  return {
    backend: cellAddress(family, bytes),
    state: stateText(state),
    where: flags & BackendFlag.BACKEND_LOCAL ? "this node" : "elsewhere",
    sets: setsOf(flags).join(", ") || "none",
    service: nameOf(service),
    generation: String(generation),
  };
}

function frontendFields(mirror: FamilyMirror, key: string, value: string, nameOf: NameOf): EntryFields {
  const { internal, external, service, affinitySeconds, flags } = frontendCodec.decode(bytesOf(value));
  const tag = choiceTag(bytesOf(key));
  const choice = (word: bigint): string => choiceText(mirror, word, tag, service);
  return {
    service: nameOf(service),
    kind: frontendKindName(flags),
    ...(internal === external
      ? { backends: choice(internal) }
      : { internal: choice(internal), external: choice(external) }),
    affinity: affinitySeconds === 0 ? "none" : `${affinitySeconds} s`,
    masquerade: masqueradeOf(flags),
    "source ranges": flags & FrontendFlag.FRONTEND_SOURCE_RANGES ? "asked" : "not asked",
    "internal set": flags & FrontendFlag.FRONTEND_INTERNAL_LOCAL ? "local" : "cluster",
    "external set": flags & FrontendFlag.FRONTEND_EXTERNAL_LOCAL ? "local" : "cluster",
    slots: `${slotsText(internal)} and ${slotsText(external)}`,
  };
}

function slotsText(word: bigint): string {
  const { base, count } = decodeChoice(word);
  return count === 0 ? "none" : `${base} to ${base + count - 1}`;
}

/** More backends than these are counted. */
const MOST_BACKENDS = 16;

function choiceText(mirror: FamilyMirror, word: bigint, tag: number, service: number): string {
  const choice = decodeChoice(word);
  if (choice.tag !== tag) return "a word of another frontend";
  if (choice.count === 0) return choice.base === Empty.DROP ? "none: drop" : "none: reject";
  const end = choice.base + choice.count;
  if (end > mirror.slots.length) return `slots ${choice.base} to ${end - 1}, which are outside of the map`;
  const cells = mirror.slots.subarray(choice.base, Math.min(end, choice.base + MOST_BACKENDS));
  const texts = Array.from(cells, (cell) => namedCell(mirror, cell, service)).sort();
  const more = choice.count - texts.length;
  return `${texts.join(" ")}${more > 0 ? ` and ${more} more` : ""}`;
}

function namedCell({ family, cells, capacity }: FamilyMirror, cell: number, service: number): string {
  if (cell >= capacity.cells) return `cell ${cell} (outside of the map)`;
  const { cell: size, state, service: serviceAt } = LAYOUTS[family];
  const bytes = cells.subarray(cell * size, (cell + 1) * size);
  if (bytes[state] !== BackendState.BACKEND_LIVE)
    return `cell ${cell} (${stateText(bytes[state] as number)})`;
  if (bytes.readUInt32LE(serviceAt) !== service) return `cell ${cell} (of another service port)`;
  return cellAddress(family, bytes);
}
