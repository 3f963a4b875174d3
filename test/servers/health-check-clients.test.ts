// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { connect, createServer, type Socket } from "node:net";
import { after, before, describe, it } from "node:test";
import { HealthCheckServers } from "../../src/daemon/health-check-server.js";
import { ip } from "../fixtures/objects.js";
import { awakeTimeout } from "../support/awake.js";

/** The limit of 5 s, and what a busy machine takes on top; time in which it runs. */
const SOON_MS = 12_000;
const REQUEST = "GET / HTTP/1.1\r\nHost: x\r\n";

describe("a health check port", { concurrency: true }, () => {
  let servers: HealthCheckServers;
  let port = 0;

  before(async () => {
    servers = new HealthCheckServers({
      healthy: () => true,
      onProblem: (problem) => assert.fail(problem.message),
    });
    port = await freePort();
    const check = { namespace: "ns1", name: "m", port, localEndpoints: { 4: 1, 6: null } };
    await servers.update([check], { 4: [ip("127.0.0.1")], 6: [] });
  });
  after(() => servers?.close());

  /** What the server says until it closes the connection. */
  const until = (behave: (socket: Socket) => NodeJS.Timeout | null): Promise<string> =>
    new Promise((resolve, reject) => {
      let text = "";
      const late = awakeTimeout(SOON_MS);
      late.addEventListener("abort", () =>
        reject(new Error(`still open after ${SOON_MS} ms; said: ${text}`)),
      );
      const socket = connect(port, "127.0.0.1", () => {
        const timer = behave(socket);
        socket.once("close", () => {
          if (timer !== null) clearInterval(timer);
          resolve(text);
        });
      });
      socket.on("error", () => {});
      socket.on("data", (piece: Buffer) => {
        text += piece.toString("latin1");
      });
    });

  const slowly = (socket: Socket, first: string, again: string): NodeJS.Timeout => {
    socket.write(first);
    return setInterval(() => socket.write(again), 300);
  };

  for (const [what, behave, says] of [
    ["says nothing", () => null, /^HTTP\/1.1 408 /],
    ["sends its headers one by one", (s) => slowly(s, REQUEST, "X: y\r\n"), /^HTTP\/1.1 408 /],
    [
      "sends a body byte by byte",
      (s) => slowly(s, `${REQUEST}Content-Length: 99999\r\n\r\n`, "y"),
      /^HTTP\/1.1 200 /,
    ],
    [
      "keeps its connection and asks nothing more",
      (s) => {
        s.write(`${REQUEST}\r\n`);
        return null;
      },
      /^HTTP\/1.1 200 /,
    ],
  ] as const satisfies readonly (readonly [string, (socket: Socket) => NodeJS.Timeout | null, RegExp])[]) {
    it(`closes the connection of a client that ${what}`, async () => {
      assert.match(await until(behave), says);
    });
  }
});

function freePort(): Promise<number> {
  return new Promise((resolve) => {
    const server = createServer().listen(0, "127.0.0.1", () => {
      const address = server.address();
      server.close(() => resolve(typeof address === "object" && address !== null ? address.port : 0));
    });
  });
}
