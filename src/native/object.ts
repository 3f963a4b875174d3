// SPDX-License-Identifier: Apache-2.0
/** A loaded object: its maps, and its programs to attach or to try. */
import { attachError } from "./errors.js";
import { type AttachRequest, type AttachResult, HOOK_MODES, modeName } from "./hooks.js";
import { NativeMaps } from "./maps.js";
import {
  AttachChange,
  ptlAttachRequestCodec,
  ptlAttachResultCodec,
  ptlSocketsResultCodec,
  ptlTestResultCodec,
} from "./portolan.gen.js";
import { type LoadedProgram, programsOf } from "./programs.js";
import type { AttachedSockets } from "./sockets.js";
import { XDP_MODES, type XdpHookMode } from "./xdp.js";

/** Offsets within struct __sk_buff (linux/bpf.h) of what a test run may set. */
export const SKB = {
  mark: 8,
  priority: 32,
  ingressIfindex: 36,
  ifindex: 40,
  cb: 48,
  gsoSegs: 164,
  gsoSize: 176,
} as const;
/** More than any kernel's struct __sk_buff (184 on Linux 5.10, 192 on 6.18): the rest must be zero, and a shorter one is ENOSPC. */
export const SKB_BYTES = 256;
const XDP_MD = { dataEnd: 4, ingressIfindex: 12, bytes: 24 } as const;
const BPF_F_TEST_SKB_CHECKSUM_COMPLETE = 4;

export interface TestRunOptions {
  /** An Ethernet frame. */
  readonly data: Uint8Array;
  /** The interface that the packet belongs to: one of this network namespace. Default: none (loopback). */
  readonly ifindex?: number;
  readonly ingressIfindex?: number;
  readonly mark?: number;
  readonly priority?: number;
  readonly gsoSize?: number;
  readonly gsoSegs?: number;
  /** Default 1. The kernel does not restore the packet in between. */
  readonly repeat?: number;
  /**
   * Give the packet the sum that a network card computes over all of it (CHECKSUM_COMPLETE), and fail with EBADMSG when
   * the program leaves a sum that does not fit. Linux 6.10.
   */
  readonly checksumComplete?: boolean;
  /** The program is one of the XDP hook: of an `ifindex` the kernel wants that it has XDP, and of the others nothing is used. */
  readonly xdp?: boolean;
  /** Room beyond the input's length; default 512. */
  readonly outRoom?: number;
}

export interface TestRunResult {
  /** As the program returned it, signed: -1 is TCX_NEXT / TC_ACT_UNSPEC. */
  readonly retval: number;
  /** The frame afterwards. */
  readonly data: Uint8Array;
  readonly mark: number;
  readonly cb: readonly number[];
  /** Mean of one run. */
  readonly durationNs: number;
}

export class LoadedObject extends NativeMaps {
  /** The programs that it has loaded, with the ids by which they are told from those of an earlier life. */
  programs(): readonly LoadedProgram[] {
    this.assertOpen();
    return programsOf(this.ffi, this.handle);
  }

  /**
   * Attaches both directions of each interface of the process's network namespace, first in order at its hook. One
   * interface's failure does not stop the others. Programs stay attached when the process ends.
   */
  async attach(requests: readonly AttachRequest[]): Promise<readonly AttachResult[]> {
    this.assertOpen();
    if (requests.length === 0) return [];
    const { size } = ptlAttachRequestCodec;
    const input = Buffer.alloc(requests.length * size);
    const view = new DataView(input.buffer, input.byteOffset, input.length);
    for (const [i, { ifindex, role, mode }] of requests.entries())
      ptlAttachRequestCodec.encodeInto(view, i * size, { ifindex, role, mode: HOOK_MODES[mode] });
    const out = Buffer.alloc(requests.length * ptlAttachResultCodec.size);
    await this.ffi.callFor(requests.length, "ptl_attach", this.handle, input, requests.length, out);
    return requests.map(({ ifindex }, i) => decodeResult(ifindex, out, i));
  }

  /**
   * Puts the XDP program on an interface of the process's network namespace, in this mode and no other; one of an earlier life is
   * exchanged without a gap. It stays when the process ends. Throws NativeError, and what was there goes on: E_NATIVE_XDP_BUSY
   * (another program is there), E_NATIVE_XDP_NONE (the driver has none), E_NATIVE_OBJECT (opened without `xdp`), E_NATIVE_NO_DEVICE,
   * E_NATIVE_KERNEL.
   */
  async attachXdp(ifindex: number, mode: XdpHookMode): Promise<"new" | "replaced"> {
    this.assertOpen();
    const change = await this.ffi.callAsync("ptl_xdp_attach", this.handle, ifindex, XDP_MODES[mode]);
    return change === AttachChange.CHANGE_REPLACED ? "replaced" : "new";
  }

  /**
   * Attaches the socket programs to a cgroup v2 directory; they see the sockets of all processes in it and below. Programs of
   * an earlier life are replaced in place, those at another cgroup end after the new ones have begun. Programs stay attached
   * when the process ends. Throws NativeError, and what was at work goes on: E_NATIVE_CGROUP (no cgroup v2 directory),
   * E_NATIVE_CGROUP_BUSY (somebody holds a hook alone), E_NATIVE_OBJECT (opened with `sockets: false`), E_NATIVE_KERNEL.
   */
  async attachSockets(cgroup: string): Promise<AttachedSockets> {
    this.assertOpen();
    const out = Buffer.alloc(ptlSocketsResultCodec.size);
    await this.ffi.callAsync("ptl_attach_sockets", this.handle, cgroup, out);
    const { cgroupId, added, replaced, moved } = ptlSocketsResultCodec.decode(out);
    return { cgroupId, added, replaced, moved };
  }

  /** Runs a program on a packet. Throws NativeError: no such program, or a packet that the kernel refuses. */
  testRun(program: string, options: TestRunOptions): TestRunResult {
    this.assertOpen();
    const ctx = options.xdp ? xdpContext(options) : Buffer.alloc(SKB_BYTES);
    for (const field of options.xdp
      ? []
      : (["mark", "priority", "ingressIfindex", "ifindex", "gsoSegs", "gsoSize"] as const))
      ctx.writeUInt32LE(options[field] ?? 0, SKB[field]);
    const out = Buffer.alloc(options.data.length + (options.outRoom ?? 512));
    const result = Buffer.alloc(ptlTestResultCodec.size);
    this.ffi.call(
      "ptl_test_run",
      this.handle,
      program,
      options.data,
      options.data.length,
      out,
      out.length,
      ctx,
      ctx.length,
      options.repeat ?? 1,
      options.checksumComplete ? BPF_F_TEST_SKB_CHECKSUM_COMPLETE : 0,
      result,
    );
    const { retval, durationNs, dataOutSize } = ptlTestResultCodec.decode(result);
    return {
      retval: retval | 0,
      data: new Uint8Array(out.subarray(0, dataOutSize)),
      mark: options.xdp ? 0 : ctx.readUInt32LE(SKB.mark),
      cb: Array.from({ length: 5 }, (_, i) => (options.xdp ? 0 : ctx.readUInt32LE(SKB.cb + i * 4))),
      durationNs,
    };
  }
}

/** struct xdp_md (linux/bpf.h): a frame of this interface. */
function xdpContext({ data, ifindex, ingressIfindex }: TestRunOptions): Buffer {
  const ctx = Buffer.alloc(XDP_MD.bytes);
  ctx.writeUInt32LE(data.length, XDP_MD.dataEnd);
  ctx.writeUInt32LE(ingressIfindex ?? ifindex ?? 0, XDP_MD.ingressIfindex);
  return ctx;
}

function decodeResult(ifindex: number, bytes: Uint8Array, index: number): AttachResult {
  const result = ptlAttachResultCodec.decode(bytes, index * ptlAttachResultCodec.size);
  if (result.error !== 0)
    return { ifindex, ok: false, error: attachError(result.code, result.error, ifindex) };
  const change = result.change === AttachChange.CHANGE_REPLACED ? "replaced" : "new";
  return { ifindex, ok: true, mode: modeName(result.mode), change };
}
