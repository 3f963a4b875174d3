// SPDX-License-Identifier: Apache-2.0
/** As many flows as a map of the product's own size has room for, written in a few transactions. */
import { viewOf } from "../../src/abi/codec.js";
import { Direction, NatFlag, NatState, TICK_SHIFT } from "../../src/abi/enums.gen.js";
import { FAMILY_CODECS, type NatKey4, type NatValue4 } from "../../src/abi/layout.gen.js";
import type { KernelMaps } from "../../src/native/kernel.js";
import type { Family } from "../../src/net/ip.js";
import { protocolNumber } from "../../src/net/port.js";
import { bytesOf } from "./services-in-maps.js";

export interface ManyFlows {
  readonly family: Family;
  /** Flows whose client's address is kept: two entries each. */
  readonly plain: number;
  /** Flows whose client's address is changed: four entries each. */
  readonly masqueraded: number;
  /** Of the plain ones so many have no entry for the replies. */
  readonly halves: number;
  /** Seconds from now until which they count as just seen. */
  readonly freshFor?: number;
}

/** The service port and the two cells of SERVICES_IN_MAPS that these flows belong to. */
const TARGETS = {
  4: {
    vip: "10.96.0.1",
    port: 80,
    protocol: "TCP",
    service: 0,
    node: "192.168.7.1",
    backends: [
      { addr: "10.1.0.1", port: 8080, cell: 1, generation: 0 },
      { addr: "10.2.0.1", port: 8080, cell: 2, generation: 2 },
    ],
  },
  6: {
    vip: "fd07::1",
    port: 30053,
    protocol: "UDP",
    service: 1,
    node: "fd07::1",
    backends: [{ addr: "fd02::1", port: 53, cell: 1, generation: 0 }],
  },
} as const;

const OPEN = NatState.SEEN_FORWARD | NatState.SEEN_REPLY | NatState.ESTABLISHED;
/** Entries of one transaction. */
const BATCH = 65_536;
const PORTS = 50_000;

type Entry = readonly [key: NatKey4, value: NatValue4];

/** Client `index`: an address for each 50,000 of them, and the ports from 10,000 on. */
function* entriesOf(index: number, { family, plain, halves, freshFor = 0 }: ManyFlows): Generator<Entry> {
  const { vip, port, protocol, service, node, backends } = TARGETS[family];
  const {
    addr: backendText,
    port: targetPort,
    cell,
    generation,
  } = backends[index % backends.length] ?? backends[0];
  const host = Math.floor(index / PORTS);
  const [client, backend] = [
    bytesOf(family === 4 ? `10.9.0.${host}` : `fd09::${host}`),
    bytesOf(backendText),
  ];
  const sport = 10_000 + (index % PORTS);
  const seenAt = process.hrtime.bigint() + BigInt(freshFor) * 1_000_000_000n;
  const lastSeen = Number(seenAt >> BigInt(TICK_SHIFT));
  const common = { protocol: protocolNumber(protocol) };
  const more = { check: 0, backend: cell, generation, lastSeen, state: OPEN, service };
  const { IN, OUT } = Direction;
  const asked = index >= plain ? NatFlag.NAT_ASKED : 0;
  yield [
    { ...common, src: client, sport, dst: bytesOf(vip), dport: port, direction: IN },
    { ...more, addr: backend, port: targetPort, peerPort: sport, flags: asked },
  ];
  if (index < halves) return;
  yield [
    { ...common, src: backend, sport: targetPort, dst: client, dport: sport, direction: OUT },
    { ...more, addr: bytesOf(vip), port, peerPort: sport, flags: asked | NatFlag.NAT_REPLY },
  ];
  if (index < plain) return;
  const flags = NatFlag.NAT_MASQUERADE;
  // One source port for each client port: those of another client's are told apart by the node's address.
  const seenAs = bytesOf(family === 4 ? `192.168.${7 + host}.1` : node);
  yield [
    { ...common, src: client, sport, dst: backend, dport: targetPort, direction: OUT },
    { ...more, addr: seenAs, port: sport, peerPort: targetPort, flags },
  ];
  yield [
    { ...common, src: backend, sport: targetPort, dst: seenAs, dport: sport, direction: IN },
    { ...more, addr: client, port: sport, peerPort: targetPort, flags: flags | NatFlag.NAT_REPLY },
  ];
}

/** Established flows of shop/web (IPv4) or shop/dns (IPv6). How many entries were written. */
export async function writeManyFlows(kernel: Pick<KernelMaps, "apply">, flows: ManyFlows): Promise<number> {
  const { natKey, natValue } = FAMILY_CODECS[flows.family];
  const [keys, values] = [new Uint8Array(BATCH * natKey.size), new Uint8Array(BATCH * natValue.size)];
  const [keyView, valueView] = [viewOf(keys), viewOf(values)];
  let [count, total] = [0, 0];
  const flush = async (): Promise<void> => {
    const packed = {
      keys: keys.slice(0, count * natKey.size),
      values: values.slice(0, count * natValue.size),
    };
    const { failure } = await kernel.apply([{ map: `nat${flows.family}`, kind: "update", count, ...packed }]);
    if (failure !== null) throw new Error(`the flows do not fit: ${JSON.stringify(failure)}`);
    total += count;
    count = 0;
  };
  for (let index = 0; index < flows.plain + flows.masqueraded; index += 1) {
    for (const [key, value] of entriesOf(index, flows)) {
      natKey.encodeInto(keyView, count * natKey.size, key);
      natValue.encodeInto(valueView, count * natValue.size, value);
      count += 1;
      if (count === BATCH) await flush();
    }
  }
  await flush();
  return total;
}
