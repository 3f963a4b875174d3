// SPDX-License-Identifier: Apache-2.0
/** The native library as the rest of Portolan sees it. Imported by `dataplane` and by read-only commands, by nobody else. */
import { type PtlConfig, ptlConfigCodec } from "../abi/layout.gen.js";
import type { MapName } from "../abi/maps.gen.js";
import { verifyByteOrder, verifyLibrary, verifyObject } from "../abi/verify.js";
import type { Family } from "../net/ip.js";
import {
  createTracked,
  deleteTracked,
  dumpTracked,
  sealNat,
  type TrackedFlow,
  type TrackedFlows,
  type TrackedResult,
} from "./conntrack.js";
import { NativeError } from "./errors.js";
import { Ffi } from "./ffi.js";
import { type Attachment, decodeAttachments, packIndexes } from "./hooks.js";
import {
  dumpInterfaces,
  type EventTopic,
  type InterfaceEvent,
  type InterfaceWatch,
  type NetworkInterface,
  watchInterfaces,
} from "./interfaces.js";
import { NativeMaps } from "./maps.js";
import { LoadedObject } from "./object.js";
import { libraryPath, objectPath, twinPath } from "./paths.js";
import { OpenFlag, ptlAttachmentCodec, ptlFeatureCodec, ptlSizeCodec } from "./portolan.gen.js";
import { type ProgramMaps, programConfig, programMaps } from "./programs.js";
import { type Route, type RouteRequest, routeOf } from "./route.js";
import {
  type DestroyedSockets,
  destroyUdpSockets,
  type SocketLink,
  socketLinks,
  type UdpTarget,
} from "./sockets.js";
import { openTwin, type Twin } from "./twin.js";
import { type XdpState, xdpStates } from "./xdp.js";

export type FeatureName =
  | "tcx"
  | "batch_hash"
  | "batch_array"
  | "batch_percpu_array"
  | "ringbuf"
  | "csum_ipv6_flag"
  | "cgroup_sockets"
  | "set_retval"
  | "coarse_clock"
  | "udp_destroy"
  | "jit"
  | "btf"
  | "br_netfilter4"
  | "br_netfilter6";

/** Found by trying. null: could not be found out (`errno` says why). */
export interface Feature {
  readonly name: FeatureName;
  readonly available: boolean | null;
  readonly errno: number;
}

export interface OpenOptions {
  /** Directory for the pins, below a bpf file system; made when missing. "": private maps that vanish with the handle. */
  readonly pins: string;
  /** Default: build/portolan.bpf.o. */
  readonly object?: string;
  /** What goes into .rodata; left out: what the object was compiled with. */
  readonly config?: PtlConfig;
  /** max_entries where it differs from the default. A pinned map of another size is E_NATIVE_MAP_SPEC. */
  readonly maxEntries?: Readonly<Partial<Record<MapName, number>>>;
  /** Default true. False: the programs of the socket hooks are not loaded, and `attachSockets` is E_NATIVE_OBJECT. */
  readonly sockets?: boolean;
  /** Default false: the XDP program is not loaded, and `attachXdp` is E_NATIVE_OBJECT. */
  readonly xdp?: boolean;
}

const MAX_FEATURES = 32;
const LAYOUT_BYTES = 64 * 1024;

export class NativeLibrary {
  readonly path: string;
  readonly #ffi: Ffi;

  /** Throws NativeError (E_NATIVE_LIBRARY) or AbiError (E_ABI_LIBRARY). */
  constructor(path: string = libraryPath()) {
    verifyByteOrder();
    this.path = path;
    this.#ffi = new Ffi(path);
    const hash = Buffer.alloc(8);
    this.#ffi.call("ptl_abi_hash", hash);
    verifyLibrary(this.#ffi.call("ptl_abi_version"), hash.readBigUInt64LE(0), path);
  }

  /** Every FFI call of this library, for metrics and tests. */
  get calls(): number {
    return this.#ffi.calls;
  }

  /** ptl_choice_tag() as C computes it; `choiceTag` of abi/hash must agree. */
  choiceTag(key: Uint8Array): number {
    return this.#ffi.call("ptl_choice_tag_of", key, key.length);
  }

  /** ptl_mark_index() as C computes it; `markIndex` of abi/hash must agree. */
  markIndex(address: Uint8Array, mark: number): number {
    return this.#ffi.call("ptl_mark_index_of", address, address.length, mark);
  }

  /** The libbpf that the library was linked with: "1.1". */
  libbpfVersion(): string {
    const version = this.#ffi.call("ptl_libbpf_version");
    return `${version >>> 16}.${version & 0xffff}`;
  }

  /** True: mounted now. False: there was one. */
  mountBpffs(path: string): boolean {
    return this.#ffi.call("ptl_mount_bpffs", path) === 1;
  }

  probe(): readonly Feature[] {
    const { size } = ptlFeatureCodec;
    const out = Buffer.alloc(MAX_FEATURES * size);
    const count = this.#ffi.call("ptl_probe", out, MAX_FEATURES);
    return Array.from({ length: count }, (_, i) => {
      const { name, value } = ptlFeatureCodec.decode(out, i * size);
      return {
        name: name as FeatureName,
        available: value < 0 ? null : value > 0,
        errno: value < 0 ? -value : 0,
      };
    });
  }

  /** Cookie of the process's network namespace, as bpf_get_netns_cookie() tells it; 0n: unknown (before Linux 5.14). */
  netnsCookie(): bigint {
    const out = Buffer.alloc(8);
    this.#ffi.call("ptl_netns_cookie", out);
    return out.readBigUInt64LE(0);
  }

  /** Throws AbiError (E_ABI_OBJECT) when an object file was built for another layout. */
  verifyObject(object: string = objectPath()): void {
    const out = Buffer.alloc(LAYOUT_BYTES);
    const length = this.#ffi.call("ptl_object_layout", object, out, out.length);
    verifyObject(out.toString("utf8", 0, length), object);
  }

  /**
   * Loads the programs and opens or makes the maps. Throws NativeError: E_NATIVE_VERIFIER (with the log),
   * E_NATIVE_MAP_SPEC (a pin of another layout or size), E_NATIVE_BPFFS, E_NATIVE_OBJECT; AbiError. After a failure there
   * are no pins that were not there before, except after E_ABI_MAP: an object that is none of ours has loaded by then.
   */
  async open(options: OpenOptions): Promise<LoadedObject> {
    const object = options.object ?? objectPath();
    this.verifyObject(object);
    const sizes = Object.entries(options.maxEntries ?? {});
    const packed = Buffer.alloc(Math.max(1, sizes.length) * ptlSizeCodec.size);
    for (const [i, [map, maxEntries]] of sizes.entries())
      packed.set(ptlSizeCodec.encode({ map, maxEntries }), i * ptlSizeCodec.size);
    const config = options.config ? ptlConfigCodec.encode(options.config) : new Uint8Array(0);
    const handle = await this.#ffi.callAsync(
      "ptl_open",
      object,
      options.pins,
      config.length > 0 ? config : null,
      config.length,
      packed,
      sizes.length,
      (options.sockets === false ? OpenFlag.OPEN_NO_SOCKETS : 0) |
        (options.xdp === true ? 0 : OpenFlag.OPEN_NO_XDP),
    );
    return new LoadedObject(this.#ffi, handle, options.pins || object);
  }

  /** The pinned maps, for reading only unless they are to be written. Throws NativeError: E_NATIVE_PINS when there are none. */
  openPins(pins: string, { writable = false }: { readonly writable?: boolean } = {}): NativeMaps {
    return new NativeMaps(this.#ffi, this.#ffi.call("ptl_open_pins", pins, writable ? 1 : 0), pins);
  }

  /**
   * The twin of one family's programs over the maps that are pinned in `pins`. Throws NativeError: E_NATIVE_PINS, E_NATIVE_MAP_SPEC (pins of
   * another build), E_NATIVE_VERIFIER; AbiError.
   */
  openTwin(pins: string, family: Family, config: PtlConfig, object: string = twinPath()): Twin {
    this.verifyObject(object);
    return openTwin(this.#ffi, object, pins, family, config);
  }

  /** Where the kernel would send a packet, in the process's network namespace. */
  route(request: RouteRequest): Route {
    return routeOf(this.#ffi, request);
  }

  /** Takes our programs off these interfaces. Number of hooks. */
  async detach(pins: string, ifindexes: readonly number[]): Promise<number> {
    const count = ifindexes.length;
    if (count === 0) return 0;
    return await this.#ffi.callFor(count, "ptl_detach", pins, packIndexes(ifindexes), count);
  }

  /** Everything at the hooks of these interfaces, ours or not, in the order in which it runs. */
  async attachments(ifindexes: readonly number[]): Promise<readonly Attachment[]> {
    const { length } = ifindexes;
    if (length === 0) return [];
    const indexes = packIndexes(ifindexes);
    for (let capacity = Math.max(64, length * 4); ; capacity *= 4) {
      const out = Buffer.alloc(capacity * ptlAttachmentCodec.size);
      try {
        const count = await this.#ffi.callFor(length, "ptl_attachments", indexes, length, out, capacity);
        return decodeAttachments(out, count);
      } catch (error) {
        const full = error instanceof NativeError && error.errno === ENOSPC;
        if (!full || capacity > 1e6) throw error;
      }
    }
  }

  /** What is at the XDP hooks of these interfaces, ours or not, in their order. */
  async xdpStates(ifindexes: readonly number[]): Promise<readonly XdpState[]> {
    return await xdpStates(this.#ffi, ifindexes);
  }

  /** Takes our XDP program off these interfaces. Number of hooks. */
  async detachXdp(pins: string, ifindexes: readonly number[]): Promise<number> {
    const count = ifindexes.length;
    if (count === 0) return 0;
    return await this.#ffi.callFor(count, "ptl_xdp_detach", pins, packIndexes(ifindexes), count);
  }

  /** The maps and constants of a program, by its id. Throws NativeError; ENOENT: there is no such program any more. */
  programMaps(programId: number): ProgramMaps {
    return programMaps(this.#ffi, programId);
  }

  /** The settings that a loaded program was given. Throws NativeError: E_NATIVE_OBJECT when it is of another build. */
  programConfig(programId: number): PtlConfig {
    return programConfig(this.#ffi, programId);
  }

  /** The id of the map that is pinned at this path; null: nothing is. Throws NativeError (E_NATIVE_MAP_SPEC: no map). */
  pinnedMap(path: string): number | null {
    return this.#ffi.call("ptl_pinned_map", path) || null;
  }

  /** Pins a map by its id, in the place of whatever is there. */
  pinMap(mapId: number, path: string): void {
    this.#ffi.call("ptl_pin_map", mapId, path);
  }

  /** The socket hooks that are attached from these pins: at most eight, none when nothing is attached. */
  socketLinks(pins: string): readonly SocketLink[] {
    return socketLinks(this.#ffi, pins);
  }

  /** Takes our programs off the socket hooks, with their pins. Idempotent. Number of hooks. */
  async detachSockets(pins: string): Promise<number> {
    return await this.#ffi.callAsync("ptl_detach_sockets", pins);
  }

  /**
   * Ends the connected UDP sockets of the process's network namespace that talk to these backends: their next receive fails
   * with ECONNABORTED. One FFI call. Throws NativeError; that the kernel cannot do it is in the result.
   */
  async destroyUdpSockets(targets: readonly UdpTarget[]): Promise<DestroyedSockets> {
    return await destroyUdpSockets(this.#ffi, targets);
  }

  /**
   * The flows of a protocol (IPPROTO_*) that the kernel tracks with all these status bits (TrackedStatus), of both families and at
   * most `most`. Throws NativeError; ENOENT or EPROTONOSUPPORT where the kernel has no ctnetlink.
   */
  async trackedFlows(protocol: number, status: number, most: number): Promise<TrackedFlows> {
    return await dumpTracked(this.#ffi, protocol, status, most);
  }

  /** Makes the kernel forget flows. One FFI call, and one request a flow. */
  async deleteTracked(flows: readonly TrackedFlow[]): Promise<TrackedResult> {
    return await deleteTracked(this.#ffi, flows);
  }

  /** Makes the kernel's conntrack translate flows that it did not translate before. One FFI call. */
  async createTracked(flows: readonly TrackedFlow[]): Promise<TrackedResult> {
    return await createTracked(this.#ffi, flows);
  }

  /** Fills in `check` of packed values of the map nat4 or nat6. */
  sealNat(family: Family, keys: Uint8Array, values: Uint8Array, count: number): void {
    sealNat(this.#ffi, family, keys, values, count);
  }

  /** Removes the link pins of interfaces that are gone. Number of pins. */
  sweep(pins: string): number {
    return this.#ffi.call("ptl_sweep", pins);
  }

  /** Detaches everything that was attached from these pins, and removes pins and directory. Idempotent. Number removed. */
  cleanup(pins: string): number {
    return this.#ffi.call("ptl_cleanup", pins);
  }

  /** All interfaces of the process's network namespace. */
  interfaces(): readonly NetworkInterface[] {
    return dumpInterfaces(this.#ffi);
  }

  /** Number of the last change to nftables' rules in the process's network namespace; iptables-nft's are among them. 0: there were none. */
  nftGeneration(): number {
    const out = Buffer.alloc(4);
    this.#ffi.call("ptl_nft_generation", out);
    return out.readUInt32LE(0);
  }

  /** Calls `onEvent` for each change until closed. Watch first, dump afterwards. */
  watch(
    topics: readonly EventTopic[],
    onEvent: (event: InterfaceEvent) => void,
    onError: (error: Error) => void,
  ): InterfaceWatch {
    return watchInterfaces(this.#ffi, topics, onEvent, onError);
  }
}

const ENOSPC = 28;
