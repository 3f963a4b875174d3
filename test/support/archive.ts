// SPDX-License-Identifier: Apache-2.0
/** Archives of `portolan dump`, made from a kernel in memory: the same on every machine. */
import { createWriteStream } from "node:fs";
import { buffer } from "node:stream/consumers";
import { pipeline } from "node:stream/promises";
import { createGzip } from "node:zlib";
import { LAYOUT_VERSION } from "../../src/abi/abi-hash.gen.js";
import { Direction, NatFlag, NatState, TICK_SHIFT } from "../../src/abi/enums.gen.js";
import { FAMILY_CODECS } from "../../src/abi/layout.gen.js";
import { MAP_NAMES, MAPS, type MapName } from "../../src/abi/maps.gen.js";
import { abiText, FORMAT, FORMAT_VERSION, type Meta } from "../../src/cli/archive/format.js";
import { type ArchiveContent, archiveStream } from "../../src/cli/archive/write.js";
import { isArrayMap, type MapWrite } from "../../src/native/kernel.js";
import { MemoryKernel } from "../../src/native/memory.js";
import { protocolNumber } from "../../src/net/port.js";
import { bytesOf, client, put, SERVICES_IN_MAPS } from "./services-in-maps.js";

/** CLOCK_MONOTONIC of the machine that the archives are of. */
export const NOW_NS: bigint = 10_000n * 1_000_000_000n;
const ticksOf = (ns: bigint): number => Number(ns >> BigInt(TICK_SHIFT));
export const WRITTEN: Date = new Date("2026-11-23T03:00:00Z");

/** Small, so that an archive of few entries is small. */
export const SMALL_MAPS: Readonly<Partial<Record<MapName, number>>> = {
  slots4: 64,
  slots6: 64,
  backends4: 64,
  backends6: 64,
  backend_stats4: 64,
  backend_stats6: 64,
  counters: 128,
};

interface FlowOptions {
  readonly client: string;
  readonly sport: number;
  readonly vip: string;
  readonly dport: number;
  readonly backend: string;
  readonly port: number;
  readonly cell: number;
  readonly generation?: number;
  readonly service?: number;
  readonly protocol?: "TCP" | "UDP" | "SCTP";
  readonly state?: number;
  readonly flags?: number;
  /** Ticks since its last packet. */
  readonly idle?: number;
  readonly nowTicks?: number;
}

const OPEN = NatState.SEEN_FORWARD | NatState.SEEN_REPLY | NatState.ESTABLISHED;

/** A client's flow to a Service, as ingress remembers it. */
export function flow(options: FlowOptions): MapWrite {
  const { protocol = "TCP", state = OPEN, flags = 0, idle = 10, service = 0, generation = 0 } = options;
  const { nowTicks = ticksOf(NOW_NS) } = options;
  const family = options.client.includes(":") ? 6 : 4;
  const { natKey, natValue } = FAMILY_CODECS[family];
  const key = natKey.encode({
    src: bytesOf(options.client),
    dst: bytesOf(options.vip),
    sport: options.sport,
    dport: options.dport,
    protocol: protocolNumber(protocol),
    direction: Direction.IN,
  });
  const value = natValue.encode({
    addr: bytesOf(options.backend),
    port: options.port,
    peerPort: options.sport,
    check: 0,
    backend: options.cell,
    generation,
    lastSeen: nowTicks - idle,
    state,
    flags,
    service,
  });
  return put(`nat${family}`, key, value);
}

const WEB = {
  client: "10.9.0.9",
  vip: "10.96.0.1",
  dport: 80,
  backend: "10.1.0.1",
  port: 8080,
  cell: 1,
} as const;

/** Beside SERVICES_IN_MAPS: flows in each state, of both families, and the clients that session affinity remembers. */
export function flowsInMaps(nowNs: bigint): readonly MapWrite[] {
  const nowTicks = ticksOf(nowNs);
  const web = { ...WEB, nowTicks };
  return [
    flow({ ...web, sport: 40001 }),
    flow({ ...web, sport: 40002, backend: "10.2.0.1", cell: 2, generation: 2, idle: 40 }),
    flow({
      ...web,
      sport: 40003,
      backend: "10.2.0.2",
      cell: 3,
      generation: 4,
      state: OPEN | NatState.FIN_FORWARD,
    }),
    flow({
      ...web,
      sport: 40004,
      backend: "10.2.0.9",
      cell: 4,
      generation: 1,
      state: OPEN | NatState.RST_REPLY,
      idle: 1,
    }),
    flow({ ...web, sport: 40005, state: NatState.SEEN_FORWARD, idle: 9000 }),
    flow({ ...web, sport: 40006, vip: "10.1.0.1", dport: 8080, flags: NatFlag.NAT_DIRECT }),
    flow({
      nowTicks,
      client: "fd09::9",
      sport: 50001,
      vip: "fd07::1",
      dport: 30053,
      backend: "fd02::1",
      port: 53,
      cell: 1,
      service: 1,
      protocol: "UDP",
    }),
    client("10.9.0.9", 0, 1, nowNs - 7n * 1_000_000_000n),
    client("10.9.0.10", 0, 3, nowNs - 700n * 1_000_000_000n, 4),
  ];
}

export const FLOWS_IN_MAPS: readonly MapWrite[] = flowsInMaps(NOW_NS);

/** A kernel with both. */
export async function fixtureKernel(more: readonly MapWrite[] = []): Promise<MemoryKernel> {
  const kernel = new MemoryKernel({ maxEntries: SMALL_MAPS });
  const { failure } = await kernel.apply([...SERVICES_IN_MAPS, ...FLOWS_IN_MAPS, ...more]);
  if (failure !== null) throw new Error(`the fixture does not fit: ${JSON.stringify(failure)}`);
  return kernel;
}

/** What meta.json says of a kernel. */
export function metaOf(kernel: MemoryKernel, change: Partial<Meta> = {}): Meta {
  const infos = MAP_NAMES.map((name, i) => {
    const { type, flags } = MAPS[name];
    const { keySize, valueSize, maxEntries } = kernel.info(name);
    const used = isArrayMap(name) ? null : kernel.size(name);
    return { name, type, keySize, valueSize, maxEntries, flags, id: 100 + i, bytes: maxEntries * 64, used };
  });
  return {
    format: FORMAT,
    version: FORMAT_VERSION,
    written: WRITTEN.toISOString(),
    host: "node7",
    versions: {
      portolan: "0.1.0",
      node: "v20",
      kernel: "6.1",
      libbpf: "1.1",
      layout: LAYOUT_VERSION,
      abi: abiText(),
    },
    bpfRoot: "/sys/fs/bpf/portolan",
    monotonicNs: NOW_NS.toString(),
    maps: infos,
    noMaps: null,
    ...change,
  };
}

const ATTACHMENT = { position: 0, programId: 7, linkId: 8, priority: 0, tag: "0123456789abcdef" } as const;

export function contentOf(kernel: MemoryKernel, change: Partial<ArchiveContent> = {}): ArchiveContent {
  const own = { ...ATTACHMENT, ifindex: 7777, mode: "tcx", ours: true } as const;
  return {
    meta: metaOf(kernel),
    hooks: {
      interfaces: [{ ifindex: 7777, name: "veth7" }],
      attachments: [
        { ...own, direction: "in", name: "ptl_pod_in" },
        { ...own, direction: "out", name: "ptl_pod_out" },
        { ...own, direction: "out", name: "cil_to_container", ours: false, position: 1 },
      ],
    },
    problems: {
      problems: [
        {
          severity: "warning",
          origin: { file: "b.yaml", line: 3 },
          object: "Service shop/late",
          field: "spec.clusterIPs",
          message: "10.96.0.1:80/TCP belongs to Service shop/web (a.yaml:1), which is older or first by name",
        },
      ],
      problemsFrom: { written: "2026-11-23T02:59:00Z", agentRunning: true },
    },
    doctor: { ok: true, checks: [] },
    log: '{"level":"info","msg":"ready"}\n',
    maps: kernel,
    ...change,
  };
}

/** The tar file of an archive. */
export async function archiveTar(content: ArchiveContent): Promise<Buffer> {
  const { stream, entries } = archiveStream(content, WRITTEN);
  const tar = await buffer(stream);
  await entries;
  return tar;
}

/** Writes an archive to a file, in bounded memory. How many entries of each map are in it. */
export async function writeArchive(
  file: string,
  content: ArchiveContent,
): Promise<Readonly<Partial<Record<MapName, number>>>> {
  const { stream, entries } = archiveStream(content, WRITTEN);
  await pipeline(stream, createGzip({ level: 1 }), createWriteStream(file));
  return entries;
}
