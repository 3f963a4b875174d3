// SPDX-License-Identifier: Apache-2.0
/**
 * A client that never pauses; run in a pod by the demonstration: `node probe.js ADDRESS PORT`. It opens one connection
 * after another, asks each for the key "pod", and keeps one more connection open on which it sends PING all the time. Each
 * outcome is a line of JSON on stdout. Times are CLOCK_MONOTONIC, which all processes of a machine share.
 */
import { createConnection, type Socket } from "node:net";
import { setTimeout as pause } from "node:timers/promises";

/** One outcome. */
export interface ProbeEvent {
  /** "new": a connection of its own; "held": a PING on the connection that stays open. */
  readonly kind: "new" | "held";
  /** Monotonic milliseconds at the start and at the end. */
  readonly start: number;
  readonly end: number;
  /** The pod which answered ("PONG" on the held one); null when none did. */
  readonly answer: string | null;
  /** Why none did: an errno's name, or "TIMEOUT". */
  readonly error: string | null;
}

const TIMEOUT_MS = 2_000;
/** A limit that is noticed so late was not this program's to notice: the machine stood still. */
const LATE_MS = 500;
const PAUSE_MS = 3;

/** Monotonic milliseconds, comparable between processes. */
export function monotonicMs(): number {
  return Number(process.hrtime.bigint()) / 1e6;
}

/** Calls back when nothing has come for {@link TIMEOUT_MS}; on a machine that stood still meanwhile, the time begins anew. */
function onSilence(socket: Socket, callback: () => void): void {
  let due = 0;
  const wait = (): void => {
    due = monotonicMs() + TIMEOUT_MS;
    socket.setTimeout(TIMEOUT_MS);
  };
  socket.on("data", wait);
  socket.on("timeout", () => {
    if (monotonicMs() - due > LATE_MS) wait();
    else callback();
  });
  wait();
}

/** Asks one server for the key "pod", on a connection of its own. */
export function askOnce(host: string, port: number): Promise<ProbeEvent> {
  const start = monotonicMs();
  return new Promise((resolve) => {
    const socket = createConnection({ host, port, noDelay: true });
    let text = "";
    const done = (answer: string | null, error: string | null): void => {
      socket.destroy();
      resolve({ kind: "new", start, end: monotonicMs(), answer, error });
    };
    onSilence(socket, () => done(null, "TIMEOUT"));
    socket.on("connect", () => socket.write("*2\r\n$3\r\nGET\r\n$3\r\npod\r\n"));
    socket.on("error", (error: NodeJS.ErrnoException) => done(null, error.code ?? error.message));
    socket.on("end", () => done(null, "CLOSED"));
    socket.setEncoding("latin1").on("data", (chunk: string) => {
      text += chunk;
      const match = /^\$\d+\r\n(.*)\r\n$/.exec(text);
      if (match) done(match[1] as string, null);
    });
  });
}

function print(event: ProbeEvent): void {
  process.stdout.write(`${JSON.stringify(event)}\n`);
}

/** PING on one connection, as long as it lives. */
function hold(host: string, port: number): void {
  const socket = createConnection({ host, port, noDelay: true });
  let start = monotonicMs();
  const ping = (): void => {
    start = monotonicMs();
    socket.write("PING\r\n");
  };
  const lost = (error: string): void => {
    socket.destroy();
    print({ kind: "held", start, end: monotonicMs(), answer: null, error });
  };
  onSilence(socket, () => lost("TIMEOUT"));
  socket.on("connect", ping);
  socket.on("error", (error: NodeJS.ErrnoException) => lost(error.code ?? error.message));
  socket.on("end", () => lost("CLOSED"));
  socket.on("data", () => {
    print({ kind: "held", start, end: monotonicMs(), answer: "PONG", error: null });
    setTimeout(ping, 20);
  });
}

async function main(host: string, port: number): Promise<void> {
  process.stdout.on("error", () => process.exit()); // whoever listened has gone
  hold(host, port);
  for (;;) {
    print(await askOnce(host, port));
    await pause(PAUSE_MS);
  }
}

// The file's name, with or without a compiler in between.
if (/[/\\]probe\.[jt]s$/.test(process.argv[1] ?? "")) {
  const [host = "", port = ""] = process.argv.slice(2);
  await main(host, Number(port));
}
