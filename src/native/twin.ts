// SPDX-License-Identifier: Apache-2.0
/** The twin of the programs, for `portolan trace`: runs packets and notes every access to a map, and changes none. */

import { TraceSize } from "../abi/enums.gen.js";
import {
  type PtlConfig,
  ptlConfigCodec,
  type TraceAnswer,
  type TraceRecord,
  type TraceRequest,
  traceAnswerCodec,
  traceRecordCodec,
  traceRequestCodec,
} from "../abi/layout.gen.js";
import type { Family, IpAddress } from "../net/ip.js";
import type { Ffi } from "./ffi.js";
import { SKB, SKB_BYTES, type TestRunResult } from "./object.js";
import { ptlTestResultCodec } from "./portolan.gen.js";
import { toSixteen } from "./sixteen.js";

/** Where a packet is run: at a hook of an interface of this network namespace. */
export interface TwinHook {
  readonly direction: "in" | "out";
  readonly ifindex: number;
  /** The interface is the host side of a pod's veth: enum ptl_role's POD. */
  readonly pod: boolean;
}

export interface TwinRun extends Pick<TestRunResult, "retval" | "data" | "mark"> {
  /** What the program looked up, wrote and counted, in order. */
  readonly records: readonly TraceRecord[];
  /** How many more there were than could be kept. */
  readonly lost: number;
}

/** A socket that asks for an address. */
export interface SocketRequest {
  readonly wanted: IpAddress;
  readonly port: number;
  /** The address that it is bound to; null: to none. */
  readonly bound: IpAddress | null;
  readonly boundPort: number;
  /** IPPROTO_*. */
  readonly protocol: number;
  /** Of the node's own processes; false: of a pod. */
  readonly host: boolean;
}

const NO_SOCKET: TraceRequest = {
  wanted: toSixteen(null),
  bound: toSixteen(null),
  port: 0,
  boundPort: 0,
  protocol: 0,
  host: 0,
  pod: 0,
};

/** Room beyond the frame: an answer to a short packet is longer than it. */
const OUT_ROOM = 512;
/** ptl_socket looks at no packet, and the kernel runs nothing without one. */
const ANY_FRAME = new Uint8Array(64);

export class Twin {
  readonly #ffi: Ffi;
  readonly #handle: number;

  readonly family: Family;

  constructor(ffi: Ffi, handle: number, family: Family) {
    this.family = family;
    this.#ffi = ffi;
    this.#handle = handle;
  }

  /** Runs a frame as the live program would see it at that hook. Throws NativeError. */
  run({ direction, ifindex, pod }: TwinHook, frame: Uint8Array, mark: number): TwinRun {
    const ctx = Buffer.alloc(SKB_BYTES);
    ctx.writeUInt32LE(ifindex, SKB.ifindex);
    ctx.writeUInt32LE(ifindex, SKB.ingressIfindex);
    ctx.writeUInt32LE(mark >>> 0, SKB.mark);
    const request = { ...NO_SOCKET, pod: pod ? 1 : 0 };
    const { result, out, records, lost } = this.#run(`twin_${direction}${this.family}`, frame, ctx, request);
    const data = new Uint8Array(out.subarray(0, result.dataOutSize));
    return { retval: result.retval | 0, data, mark: ctx.readUInt32LE(SKB.mark), records, lost };
  }

  /** What the socket hooks would do for a socket that connects. Throws NativeError. */
  socket(request: SocketRequest): { readonly answer: TraceAnswer } & Pick<TwinRun, "records" | "lost"> {
    const { answer, records, lost } = this.#run(
      `twin_socket${this.family}`,
      ANY_FRAME,
      Buffer.alloc(SKB_BYTES),
      {
        wanted: toSixteen(request.wanted),
        bound: toSixteen(request.bound),
        port: request.port,
        boundPort: request.boundPort,
        protocol: request.protocol,
        host: request.host ? 1 : 0,
        pod: 0,
      },
    );
    return { answer: traceAnswerCodec.decode(answer), records, lost };
  }

  #run(program: string, frame: Uint8Array, ctx: Buffer, asked: TraceRequest) {
    const request = traceRequestCodec.encode(asked);
    const out = Buffer.alloc(frame.length + OUT_ROOM);
    const result = Buffer.alloc(ptlTestResultCodec.size);
    const answer = Buffer.alloc(traceAnswerCodec.size);
    const records = Buffer.alloc(TraceSize.TRACE_RECORDS * traceRecordCodec.size);
    const noted = this.#ffi.call(
      "ptl_trace_run",
      this.#handle,
      program,
      frame,
      frame.length,
      out,
      out.length,
      ctx,
      ctx.length,
      request,
      request.length,
      result,
      answer,
      records,
      TraceSize.TRACE_RECORDS,
    );
    const kept = Math.min(noted, TraceSize.TRACE_RECORDS);
    return {
      result: ptlTestResultCodec.decode(result),
      out,
      answer,
      records: Array.from({ length: kept }, (_, i) =>
        traceRecordCodec.decode(records, i * traceRecordCodec.size),
      ),
      lost: noted - kept,
    };
  }

  /** Forgets what earlier runs have written: the next one sees the live maps alone. */
  reset(): void {
    this.#ffi.call("ptl_trace_reset", this.#handle);
  }

  /** Idempotent is not promised: close it once. */
  close(): void {
    this.#ffi.callRaw("ptl_close", this.#handle);
  }
}

/** Loads the twin of one family's programs over the maps that are pinned in a directory. */
export function openTwin(ffi: Ffi, object: string, pins: string, family: Family, config: PtlConfig): Twin {
  const packed = ptlConfigCodec.encode(config);
  return new Twin(ffi, ffi.call("ptl_trace_open", object, pins, family, packed, packed.length), family);
}
