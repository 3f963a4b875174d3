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

export class Restorer {
  readonly #pins: string;
  readonly #scratch: string;

  /** Loads packet.bpf.o. */
  constructor() {
    this.#pins = `/sys/fs/bpf/ptl-bench-${process.pid}`;
    this.#scratch = mkdtempSync(join(tmpdir(), "portolan-bench-"));
    mkdirSync(this.#pins);
    this.#bpftool("prog", "loadall", OBJECT, this.#pins, "pinmaps", `${this.#pins}/maps`);
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
  target(program: number | "bench_empty" | "bench_lookup"): void {
    this.#updateMap(
      "target",
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
      `${this.#pins}/bench_restore`,
      "data_in",
      frame,
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
