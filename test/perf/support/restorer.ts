// SPDX-License-Identifier: Apache-2.0
/**
 * Runs a program many times on a packet that is as it was each time, by what stands before it (packet.bpf.c). Its pins are
 * below a directory of its own, and go with close().
 */
import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { buildFrame, familyOf, type Packet } from "../../support/packet.js";
import { ROOT } from "./machine.js";

/** FRAME_BYTES of packet.bpf.c. */
const FRAME_BYTES = 128;
const OBJECT = join(ROOT, "build/test/packet.bpf.o");
const NO_TARGET = 99;

/** Where the client's address ends, and where its port is, in a frame without options. */
const OFFSETS = { 4: { address: 28, port: 34 }, 6: { address: 36, port: 54 } } as const;
/** The same where the client is the receiver. */
const REPLY_OFFSETS = { 4: { address: 32, port: 36 }, 6: { address: 52, port: 56 } } as const;

export interface FlowPlan {
  /** Of the first flow; the frame may have no more than 128 bytes, and is filled up to that. */
  readonly packet: Packet;
  /** A power of two. */
  readonly flows: number;
  /** The client is the packet's receiver. */
  readonly reply?: boolean;
}

export interface Timing {
  /** Mean of one repeat, with what stands before it. */
  readonly ns: number;
  /** What the program returned the last time, signed. */
  readonly verdict: number;
}

/** What stands before a program, and where it looks for it: by the kind of hook. */
const KINDS = {
  tc: { before: "bench_restore", target: "target" },
  xdp: { before: "bench_restore_x", target: "target_xdp" },
} as const;
/** struct xdp_md. */
const XDP_MD_BYTES = 24;

export class Restorer {
  readonly #pins: string;
  readonly #scratch: string;
  readonly #kind: keyof typeof KINDS;
  /** More arguments of `bpftool prog run`. */
  readonly #context: readonly string[];

  /** Loads packet.bpf.o. `arrival`: XDP programs, on frames that come in by this interface, which must carry one. */
  constructor(arrival: number | null = null) {
    this.#kind = arrival === null ? "tc" : "xdp";
    this.#pins = `/sys/fs/bpf/ptl-bench-${process.pid}-${this.#kind}`;
    this.#scratch = mkdtempSync(join(tmpdir(), "portolan-bench-"));
    mkdirSync(this.#pins);
    this.#bpftool("prog", "loadall", OBJECT, this.#pins, "pinmaps", `${this.#pins}/maps`);
    this.#context = arrival === null ? [] : ["ctx_in", this.#writeContext(arrival)];
  }

  /** What the next runs are about. */
  plan({ packet, flows, reply = false }: FlowPlan): void {
    const frame = Buffer.alloc(FRAME_BYTES);
    frame.set(buildFrame(packet));
    const { address, port } = (reply ? REPLY_OFFSETS : OFFSETS)[familyOf(packet)];
    const plan = Buffer.alloc(16 + FRAME_BYTES);
    plan.writeUInt32LE(flows - 1, 0);
    plan.writeUInt32LE(port, 4);
    plan.writeUInt32LE(address, 8);
    plan.writeUInt16LE(frame.readUInt16BE(port), 12);
    plan.writeUInt16LE(frame.readUInt16BE(address), 14);
    plan.set(frame, 16);
    writeFileSync(join(this.#scratch, "frame"), frame);
    this.#updateMap("plan", ["hex", ...hex(plan)]);
  }

  /** The program that is run, by the kernel's id of it; or one of packet.bpf.c. */
  target(program: number | "bench_empty" | "bench_empty_xdp" | "bench_lookup"): void {
    this.#updateMap(
      KINDS[this.#kind].target,
      typeof program === "number" ? ["id", String(program)] : ["pinned", `${this.#pins}/${program}`],
    );
  }

  /** @throws when there was no program to run. */
  run(repeat: number): Timing {
    const frame = join(this.#scratch, "frame");
    const text = this.#bpftool(
      "-j",
      "prog",
      "run",
      "pinned",
      `${this.#pins}/${KINDS[this.#kind].before}`,
      "data_in",
      frame,
      ...this.#context,
      "repeat",
      String(repeat),
    );
    const { retval, duration } = JSON.parse(text) as { retval: number; duration: number };
    if (retval === NO_TARGET) throw new Error("packet.bpf.c: no program to run, or the frame is too short");
    return { ns: duration, verdict: retval | 0 };
  }

  close(): void {
    rmSync(this.#pins, { recursive: true, force: true });
    rmSync(this.#scratch, { recursive: true, force: true });
  }

  #writeContext(ifindex: number): string {
    const context = Buffer.alloc(XDP_MD_BYTES);
    context.writeUInt32LE(FRAME_BYTES, 4); // data_end
    context.writeUInt32LE(ifindex, 12);
    const file = join(this.#scratch, "context");
    writeFileSync(file, context);
    return file;
  }

  #updateMap(map: string, value: readonly string[]): void {
    this.#bpftool(
      "map",
      "update",
      "pinned",
      `${this.#pins}/maps/${map}`,
      "key",
      ...hex(Buffer.alloc(4), true),
      "value",
      ...value,
    );
  }

  #bpftool(...argv: readonly string[]): string {
    // It warns of each program array that is not pinned, also where it is told the pin.
    return execFileSync("bpftool", argv, { encoding: "utf8", stdio: "pipe" });
  }
}

function hex(bytes: Buffer, word = false): string[] {
  const digits = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0"));
  return word ? ["hex", ...digits] : digits;
}
