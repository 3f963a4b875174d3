// SPDX-License-Identifier: Apache-2.0
/**
 * Connected UDP sockets whose backend does not serve any more. The socket hooks choose once, at connect(2), and the kernel
 * delivers to that address from then on: a resolver would ask a dead server for ever (9.3). Such sockets are destroyed;
 * their next receive fails with ECONNABORTED, a send before it with EDESTADDRREQ, and whoever connects anew is given a backend
 * that serves.
 */
import { viewOf } from "../abi/codec.js";
import { BackendState, Direction, NO_BACKEND } from "../abi/enums.gen.js";
import { FAMILY_CODECS } from "../abi/layout.gen.js";
import type { Image, ServicePortImage } from "../image/types.js";
import type { KernelMaps, MapDump } from "../native/kernel.js";
import { FAMILIES, type Family, type IpAddress, ipFromBytes } from "../net/ip.js";
import { protocolNumber } from "../net/port.js";
import { AppError, errorMessage } from "../util/errors.js";
import { Lane } from "../util/lane.js";
import type { Logger } from "../util/log.js";
import { inSlices, type Sliced } from "../util/slices.js";
import { VersionedMap } from "../util/versioned-map.js";

/** A UDP socket that is connected to a backend. */
export interface UdpTarget {
  /** SO_COOKIE. */
  readonly cookie: bigint;
  readonly address: IpAddress;
  readonly port: number;
}

export interface Destroyed {
  readonly destroyed: number;
  /** The kernel cannot do it (CONFIG_INET_DIAG_DESTROY). */
  readonly unsupported: boolean;
}

export interface StaleSocketsDependencies {
  readonly maps: KernelMaps;
  /** Destroys those of these sockets that are still there and still connected so. */
  readonly destroy: (targets: readonly UdpTarget[]) => Destroyed | Promise<Destroyed>;
  readonly log: Logger;
}

interface Stale {
  readonly targets: readonly UdpTarget[];
  /** Keys in `socket_nat` that nobody needs any more, packed. */
  readonly keys: Uint8Array;
  readonly keyCount: number;
}

const NOTHING: Stale = { targets: [], keys: new Uint8Array(0), keyCount: 0 };

const UDP = protocolNumber("UDP");
const STEP = 2048;

export class StaleSockets {
  readonly #maps: KernelMaps;
  readonly #destroy: StaleSocketsDependencies["destroy"];
  readonly #log: Logger;
  readonly #lane: Lane<void> = new Lane(() => this.#sweep());
  #image: Image | null = null;
  /** Taken out of `socket_nat`, and not destroyed yet: no later sweep finds them there. */
  #owed: readonly UdpTarget[] = [];
  #unsupported = false;
  #stopped = false;

  constructor({ maps, destroy, log }: StaleSocketsDependencies) {
    this.#maps = maps;
    this.#destroy = destroy;
    this.#log = log;
  }

  /** The kernel holds this image now. Looks for sockets when a UDP backend has stopped serving, and the first time. */
  async committed(image: Image): Promise<void> {
    const before = this.#image;
    this.#image = image;
    if (before === null || lostUdpBackend(before, image)) await this.sweep();
  }

  /** Looks now. Never rejects: a failure is logged, and the next look tries again. */
  async sweep(): Promise<void> {
    if (this.#stopped || this.#unsupported) return;
    try {
      await this.#lane.request();
    } catch (error) {
      this.#log.warn({ reason: errorMessage(error) }, "cannot look for sockets of removed backends");
    }
  }

  /** Starts nothing more; resolves when what is under way is done. */
  async stop(): Promise<void> {
    this.#stopped = true;
    await this.#lane.idle();
  }

  async #sweep(): Promise<void> {
    for (const family of FAMILIES) {
      const stale = await this.#find(family);
      if (stale.targets.length === 0) continue;
      // First the entry: a socket that connects anew as soon as it is destroyed may write the same key again.
      await this.#forget(family, stale);
      this.#owed = [...this.#owed, ...stale.targets];
    }
    if (this.#owed.length === 0 || this.#unsupported) return;
    const { destroyed, unsupported } = await this.#destroy(this.#owed);
    const connected = this.#owed.length;
    this.#owed = [];
    if (unsupported) {
      this.#unsupported = true;
      const code = "socket_destroy_unsupported";
      this.#log.warn({ code, sockets: connected }, "this kernel cannot end sockets of removed backends");
    } else if (destroyed > 0) {
      this.#log.info({ sockets: destroyed }, "sockets of removed backends ended");
    }
  }

  /** The entries are read before the cells: one that comes meanwhile was made from the cells as they are now. */
  async #find(family: Family): Promise<Stale> {
    const entries = await this.#maps.dump(`socket_nat${family}`);
    if (entries.count === 0) return NOTHING;
    const { used, unconnected } = await inSlices(udpEntries(family, entries));
    if (used.length === 0) return NOTHING;
    const limit = used.reduce((most, { backend }) => Math.max(most, backend), 0) + 1;
    const cells = await this.#maps.dump(`backends${family}`, limit);
    return await inSlices(staleEntries(family, used, cells, unconnected));
  }

  async #forget(family: Family, { keys, keyCount }: Stale): Promise<void> {
    const map = `socket_nat${family}` as const;
    const write = { map, kind: "delete", count: keyCount, keys, values: new Uint8Array(0) } as const;
    const { failure } = await this.#maps.apply([write]);
    if (failure === null) return;
    const text = `the kernel refused a write to map ${map} (errno ${failure.errno})`;
    throw new AppError("E_SOCKET_NAT_MAP", text, { fields: { map, errno: failure.errno } });
  }
}

/** What is needed of an entry that a connected UDP socket may have. */
interface UdpEntry {
  readonly key: Uint8Array;
  readonly backend: number;
  readonly generation: number;
  /** The key that the same socket's other entry has when it is not connected. */
  readonly reverse: string;
}

interface UdpEntries {
  readonly used: readonly UdpEntry[];
  /** Keys of direction IN: their sockets sent without being connected. */
  readonly unconnected: ReadonlySet<string>;
}

const latin1 = (bytes: Uint8Array): string =>
  Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("latin1");

function* udpEntries(family: Family, { count, keys, values }: MapDump): Sliced<UdpEntries> {
  const { socketKey, socketValue } = FAMILY_CODECS[family];
  const { protocol = 0, direction = 0 } = socketKey.offsets;
  const view = viewOf(values);
  const used: UdpEntry[] = [];
  const unconnected = new Set<string>();
  for (let i = 0; i < count; i += 1) {
    if (i % STEP === STEP - 1) yield;
    const key = keys.subarray(i * socketKey.size, (i + 1) * socketKey.size);
    if (key[protocol] !== UDP) continue;
    if (key[direction] === Direction.IN) {
      unconnected.add(latin1(key));
      continue;
    }
    const { addr, port, backend, generation } = socketValue.decodeFrom(view, i * socketValue.size);
    if (backend === NO_BACKEND) continue;
    const other = { ...socketKey.decode(key), addr, port, direction: Direction.IN };
    used.push({ key, backend, generation, reverse: latin1(socketKey.encode(other)) });
  }
  return { used, unconnected };
}

/**
 * Those whose cell does not serve any more, or is somebody else's by now. A socket that is not connected chooses anew with
 * its next datagram, and its entry stays: it names the Service in answers that are still under way. It is a target
 * nevertheless, since it may have been connected after all.
 */
function* staleEntries(
  family: Family,
  entries: readonly UdpEntry[],
  cells: MapDump,
  unconnected: ReadonlySet<string>,
): Sliced<Stale> {
  const { socketKey, backend } = FAMILY_CODECS[family];
  const view = viewOf(cells.values);
  const targets: UdpTarget[] = [];
  const keys: Uint8Array[] = [];
  for (const [i, entry] of entries.entries()) {
    if (i % STEP === STEP - 1) yield;
    if (entry.backend < cells.count) {
      const { state, generation } = backend.decodeFrom(view, entry.backend * backend.size);
      if (state === BackendState.BACKEND_LIVE && generation === entry.generation) continue;
    }
    const { cookie, addr, port } = socketKey.decode(entry.key);
    const wide = (BigInt(cookie[1]) << 32n) | BigInt(cookie[0]);
    targets.push({ cookie: wide, address: ipFromBytes(addr), port });
    if (!unconnected.has(entry.reverse)) keys.push(entry.key);
  }
  return { targets, keys: Buffer.concat(keys), keyCount: keys.length };
}

/** Whether some backend of a UDP service port served before, and does not now. */
function lostUdpBackend(before: Image, now: Image): boolean {
  const changed = VersionedMap.changedKeys(before.servicePorts, now.servicePorts);
  for (const key of changed ?? before.servicePorts.keys()) {
    const port = before.servicePorts.get(key);
    if (port?.protocol !== "UDP") continue;
    const after = now.servicePorts.get(key);
    if (after === port) continue;
    const serving = new Set(after === undefined ? [] : servingTexts(after));
    if (servingTexts(port).some((text) => !serving.has(text))) return true;
  }
  return false;
}

function servingTexts({ backends }: ServicePortImage): readonly string[] {
  return backends.filter(({ serving }) => serving).map(({ address, port }) => `${address.text} ${port}`);
}
