// SPDX-License-Identifier: Apache-2.0
/**
 * What the kernel's maps hold, in the form in which it is asked for: an image of what a predecessor wrote. Only what makes
 * sense is in it: service ports with a name, frontends whose words are sound. A port's name is as `services` can hold it.
 */
import { AddressClass, BackendFlag, BackendState, Empty, FrontendFlag } from "../abi/enums.gen.js";
import { decodeChoice } from "../abi/hash.js";
import { frontendCodec, serviceNameCodec } from "../abi/layout.gen.js";
import type {
  BackendImage,
  ChoiceImage,
  FrontendImage,
  FrontendKind,
  Image,
  ServicePortImage,
} from "../image/types.js";
import { type Cidr, compareCidr } from "../net/cidr.js";
import { compareIp, FAMILIES, type Family, type IpAddress, ipFromBytes } from "../net/ip.js";
import { protocolOfNumber } from "../net/port.js";
import type { Sliced } from "../util/slices.js";
import { bytesOf, LAYOUTS, masqueradeOf, readNetwork, readSourceRange } from "./keys.js";
import { cellKeys, type FamilyPort, type FamilyState, type PortState, type State } from "./state.js";

const STRIDE = 32;

export function* foundImage(state: State): Sliced<Image> {
  const servicePorts = new Map<string, ServicePortImage>();
  let seen = 0;
  for (const port of state.ports.values()) {
    seen += 1;
    if (seen % STRIDE === 0) yield;
    const image = portImage(state, port);
    if (image !== null) servicePorts.set(image.key, image);
  }
  return {
    servicePorts,
    problems: [],
    nodePortAddresses: FAMILIES.flatMap((family) => nodeAddresses(state.families[family])),
    serviceNetworks: FAMILIES.flatMap((family) =>
      [...state.mirror.families[family].serviceNets.keys()].map(readNetwork).sort(compareCidr),
    ),
  };
}

function nodeAddresses({ mirror }: FamilyState): IpAddress[] {
  const found: IpAddress[] = [];
  for (const [key, classes] of mirror.addresses.inKernel())
    if (classes & AddressClass.CLASS_NODE) found.push(addressAndPort(mirror.family, key).address);
  return found.sort(compareIp);
}

/** Null: it has no name, or offers nothing. */
function portImage(state: State, port: PortState): ServicePortImage | null {
  if (port.name === null) return null;
  const { namespaceName, name, portName, protocol } = serviceNameCodec.decode(bytesOf(port.name));
  const protocolName = protocolOfNumber(protocol);
  if (protocolName === null) return null;
  const backends: BackendImage[] = [];
  const frontends: FrontendImage[] = [];
  const sourceRanges: Cidr[] = [];
  let affinitySeconds = 0;
  for (const family of FAMILIES) {
    const held = port.families[family];
    if (held === null) continue;
    sourceRanges.push(
      ...Array.from(held.sourceRanges, (key) => readSourceRange(key).range).sort(compareCidr),
    );
    const indexes = addBackends(backends, state.families[family], held);
    for (const key of held.frontends.keys()) {
      const frontend = readFrontend(state.families[family], key, indexes);
      if (frontend === null) continue;
      frontends.push(frontend.image);
      ({ affinitySeconds } = frontend);
    }
  }
  if (frontends.length === 0) return null;
  const key = `${namespaceName}/${name}:${portName}/${protocolName}`;
  return {
    key,
    namespace: namespaceName,
    name,
    portName,
    protocol: protocolName,
    backends,
    frontends,
    affinitySeconds,
    sourceRanges,
  };
}

/** Returns the place of each cell among the backends. */
function addBackends(
  backends: BackendImage[],
  { mirror }: FamilyState,
  { cells, protocol }: FamilyPort,
): ReadonlyMap<number, number> {
  const { family } = mirror;
  const found = Array.from(cellKeys(mirror, cells, protocol), ([key, cell]) => {
    return { cell, ...addressAndPort(family, key) };
  }).sort((a, b) => compareIp(a.address, b.address) || a.port - b.port);
  const indexes = new Map<number, number>();
  const { cell: size, flags: flagsAt, state: stateAt } = LAYOUTS[family];
  for (const { cell, address, port } of found) {
    const flags = mirror.cells[cell * size + flagsAt] as number;
    indexes.set(cell, backends.length);
    backends.push({
      address,
      port,
      local: (flags & BackendFlag.BACKEND_LOCAL) !== 0,
      serving: mirror.cells[cell * size + stateAt] === BackendState.BACKEND_LIVE,
      clusterSet: (flags & BackendFlag.BACKEND_CLUSTER_SET) !== 0,
      localSet: (flags & BackendFlag.BACKEND_LOCAL_SET) !== 0,
    });
  }
  return indexes;
}

function addressAndPort(family: Family, key: string): { readonly address: IpAddress; readonly port: number } {
  const bytes = bytesOf(key);
  const end = LAYOUTS[family].address;
  return { address: ipFromBytes(Uint8Array.from(bytes.subarray(0, end))), port: bytes.readUInt16BE(end) };
}

/** Null when its words make no sense. */
function readFrontend(
  { mirror, broken }: FamilyState,
  key: string,
  indexes: ReadonlyMap<number, number>,
): { readonly image: FrontendImage; readonly affinitySeconds: number } | null {
  const value = mirror.frontends.get(key);
  if (value === undefined || broken.frontends.has(key)) return null;
  const { internal, external, affinitySeconds, flags } = frontendCodec.decode(bytesOf(value));
  const choice = (word: bigint, localFlag: number): ChoiceImage => {
    const { base, count } = decodeChoice(word);
    const cells = Array.from(mirror.slots.subarray(base, base + count));
    const backends = cells.map((cell) => indexes.get(cell)).filter((index) => index !== undefined);
    const whenEmpty = count === 0 && base === Empty.DROP ? "drop" : "reject";
    const set = (flags & localFlag) === 0 ? "cluster" : "local";
    return { backends: backends.sort((a, b) => a - b), whenEmpty, set };
  };
  const inside = choice(internal, FrontendFlag.FRONTEND_INTERNAL_LOCAL);
  const outside = choice(external, FrontendFlag.FRONTEND_EXTERNAL_LOCAL);
  const image: FrontendImage = {
    kind: kindOf(flags),
    ...addressAndPort(mirror.family, key),
    internal: inside,
    external: internal === external && inside.set === outside.set ? inside : outside,
    masquerade: masqueradeOf(flags),
    sourceRanged: (flags & FrontendFlag.FRONTEND_SOURCE_RANGES) !== 0,
  };
  return { image, affinitySeconds };
}

/** The maps do not tell externalIPs from load balancers without ranges: they are the same there. */
function kindOf(flags: number): FrontendKind {
  if (flags & FrontendFlag.FRONTEND_CLUSTER_IP) return "ClusterIP";
  if (flags & FrontendFlag.FRONTEND_NODE_PORT) return "NodePort";
  return flags & FrontendFlag.FRONTEND_SOURCE_RANGES ? "LoadBalancer" : "ExternalIP";
}
