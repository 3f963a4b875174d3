// SPDX-License-Identifier: Apache-2.0
/**
 * The way from a network namespace to an API server, with a gate in it. Unix sockets know no namespaces: inside, a relay takes
 * TCP connections at 127.0.0.1 and passes them to a unix socket; outside, the gate passes them on. So no interface of the
 * machine is touched, and a test can cut the way whichever server there is.
 */
import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import { rmSync } from "node:fs";
import { type AddressInfo, connect, createServer, type Server, type Socket } from "node:net";

/** Runs inside the namespace. Arguments: the port and the unix socket. */
const RELAY = `
const net = require("node:net");
const [port, path] = process.argv.slice(1);
net.createServer((outer) => {
  const inner = net.connect(path);
  for (const [a, b] of [[outer, inner], [inner, outer]]) {
    a.on("error", () => {});
    a.on("close", () => b.destroy());
    a.pipe(b);
  }
}).listen(Number(port), "127.0.0.1", () => process.stdout.write("listening\\n"));
`;

/** A TCP port of 127.0.0.1 that nobody has now. */
export async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, "close");
  return port;
}

export class Gate {
  readonly #target: { readonly host: string; readonly port: number };
  readonly #path: string;
  readonly #pairs = new Set<readonly [Socket, Socket]>();
  readonly #relays: ChildProcess[] = [];
  #server: Server | undefined;
  /** Connections so far. */
  passed = 0;

  /** `path`: where the unix socket is to be. */
  constructor(target: { readonly host: string; readonly port: number }, path: string) {
    this.#target = target;
    this.#path = path;
  }

  /** Lets connections through (again). */
  async open(): Promise<void> {
    if (this.#server !== undefined) return;
    rmSync(this.#path, { force: true });
    this.#server = createServer((inner) => this.#pass(inner));
    this.#server.listen(this.#path);
    await once(this.#server, "listening");
  }

  /**
   * Makes the server reachable at 127.0.0.1:port where `start` runs programs.
   *
   * @param start runs an argument vector with its standard output piped
   */
  async reachFrom(start: (argv: readonly string[]) => ChildProcess, port: number): Promise<void> {
    const relay = start([process.execPath, "-e", RELAY, String(port), this.#path]);
    this.#relays.push(relay);
    if (relay.stdout === null) throw new Error("relay without stdout");
    await once(relay.stdout, "data", { signal: AbortSignal.timeout(180_000) });
  }

  /** Ends all connections at once; no new one comes through until `open`. */
  cut(): void {
    this.#server?.close();
    this.#server = undefined;
    for (const pair of this.#pairs) for (const socket of pair) socket.destroy();
  }

  /** Nothing more passes on the connections that are there; they stay open. New ones come through. */
  stall(): void {
    for (const [inner, outer] of this.#pairs) {
      inner.unpipe(outer).pause();
      outer.unpipe(inner).pause();
    }
  }

  /** Connections that are open. */
  get count(): number {
    return this.#pairs.size;
  }

  async close(): Promise<void> {
    this.cut();
    await Promise.all(
      this.#relays.map(async (relay) => {
        if (relay.exitCode !== null || relay.signalCode !== null) return;
        const ended = once(relay, "exit");
        relay.kill("SIGTERM");
        await ended;
      }),
    );
    rmSync(this.#path, { force: true });
  }

  #pass(inner: Socket): void {
    const outer = connect(this.#target);
    const pair = [inner, outer] as const;
    this.#pairs.add(pair);
    this.passed++;
    for (const [a, b] of [pair, [outer, inner] as const]) {
      a.on("error", () => {});
      a.on("close", () => {
        b.destroy();
        this.#pairs.delete(pair);
      });
      a.pipe(b);
    }
  }
}
