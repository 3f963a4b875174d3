// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { once } from "node:events";
import { type IncomingHttpHeaders, request } from "node:http";
import { connect, createServer, type Server, type Socket } from "node:net";
import { after, describe, it } from "node:test";
import {
  type BindAddresses,
  EVERY_ADDRESS,
  healthCheckAddresses,
} from "../../../src/daemon/health-check-addresses.js";
import { ListenError } from "../../../src/daemon/health-check-listener.js";
import { type HealthCheckFailure, HealthCheckServers } from "../../../src/daemon/health-check-server.js";
import type { HealthCheck } from "../../../src/image/health-checks.js";
import { parseCidr } from "../../../src/net/cidr.js";
import { ip } from "../../fixtures/objects.js";

const LOOPBACK: BindAddresses = { 4: [ip("127.0.0.1")], 6: [ip("::1")] };

interface Answer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly rawHeaders: readonly string[];
  readonly body: string;
}

function ask(host: string, port: number, path = "/", method = "GET", body?: Buffer): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const sent = request({ host, port, path, method, agent: false, timeout: 120_000 }, (response) => {
      let text = "";
      response.setEncoding("utf8").on("data", (piece: string) => {
        text += piece;
      });
      response.on("end", () => {
        const { statusCode = 0, headers, rawHeaders } = response;
        resolve({ status: statusCode, headers, rawHeaders, body: text });
      });
    });
    sent.on("error", reject).on("timeout", () => sent.destroy(new Error("no answer")));
    sent.end(body);
  });
}

async function listen(port: number, host = "127.0.0.1"): Promise<Server> {
  const server = createServer();
  server.listen({ port, host });
  await once(server, "listening");
  return server;
}

/** A port that nobody had a moment ago. */
async function freePort(): Promise<number> {
  const server = await listen(0);
  const address = server.address();
  server.close();
  await once(server, "close");
  return typeof address === "object" && address !== null ? address.port : 0;
}

function check(port: number, four: number | null, six: number | null = null, name = "m"): HealthCheck {
  return { namespace: "ns1", name, port, localEndpoints: { 4: four, 6: six } };
}

const refused = { code: "ECONNREFUSED" };
const open: HealthCheckServers[] = [];
interface Made {
  readonly servers: HealthCheckServers;
  readonly problems: HealthCheckFailure[];
  healthy: boolean;
}
function make(options: { maxConnections?: number; open?: () => Promise<never> } = {}): Made {
  const problems: HealthCheckFailure[] = [];
  const servers: HealthCheckServers = new HealthCheckServers({
    healthy: () => made.healthy,
    onProblem: (problem) => problems.push(problem),
    ...options,
  });
  const made: Made = { servers, problems, healthy: true };
  open.push(servers);
  return made;
}

describe("HealthCheckServers", () => {
  after(() => Promise.all(open.map((servers) => servers.close())));

  it("answers any path with status, headers and body of kube-proxy (6.21, 6.22, M01)", async () => {
    const { servers } = make();
    const port = await freePort();
    await servers.update([check(port, 2)], LOOPBACK);
    const { status, headers, rawHeaders, body } = await ask("127.0.0.1", port, "/anything?x=%00");
    assert.equal(status, 200);
    assert.equal(headers["content-type"], "application/json");
    assert.equal(headers["x-content-type-options"], "nosniff");
    assert.equal(headers["x-load-balancing-endpoint-weight"], "2");
    assert.ok(rawHeaders.includes("X-Load-Balancing-Endpoint-Weight"));
    assert.equal(
      body,
      '{\n\t"service": {\n\t\t"namespace": "ns1",\n\t\t"name": "m"\n\t},\n\t"localEndpoints": 2,\n\t"serviceProxyHealthy": true\n}',
    );
  });

  it("answers any method (6.21), with a body that it does not read", async () => {
    const { servers } = make();
    const port = await freePort();
    await servers.update([check(port, 1)], LOOPBACK);
    for (const method of ["HEAD", "POST", "DELETE", "OPTIONS", "PROPFIND"]) {
      const { status, body } = await ask(
        "127.0.0.1",
        port,
        "/",
        method,
        method === "POST" ? Buffer.alloc(4096) : undefined,
      );
      assert.equal(status, 200, method);
      assert.equal(body === "", method === "HEAD", method);
    }
    const raw = connect(port, "127.0.0.1");
    raw.write("CONNECT example:1 HTTP/1.1\r\nHost: example:1\r\n\r\n");
    assert.match(await everything(raw), /^HTTP\/1.1 200 OK\r\n.*"localEndpoints": 1/s);
  });

  it("answers 503 without endpoints, and while the proxy is not healthy (6.24)", async () => {
    const made = make();
    const port = await freePort();
    await made.servers.update([check(port, 0)], LOOPBACK);
    assert.equal((await ask("127.0.0.1", port)).status, 503);
    await made.servers.update([check(port, 3)], LOOPBACK);
    assert.equal((await ask("127.0.0.1", port)).status, 200);
    made.healthy = false;
    const { status, headers, body } = await ask("127.0.0.1", port);
    assert.equal(status, 503);
    assert.equal(headers["x-load-balancing-endpoint-weight"], "3");
    assert.match(body, /"serviceProxyHealthy": false/);
  });

  it("binds the wildcard of each family by itself, and each answers with its own count (6.20, 6.25, M08)", async () => {
    const { servers, problems } = make();
    const port = await freePort();
    await servers.update([check(port, 1, 0)], EVERY_ADDRESS);
    assert.deepEqual(problems, []);
    assert.deepEqual(servers.listening, [
      { address: null, family: 4, port },
      { address: null, family: 6, port },
    ]);
    assert.equal((await ask("127.0.0.1", port)).status, 200);
    assert.equal((await ask("::1", port)).status, 503);
  });

  it("listens on nothing in a family that the Service does not have", async () => {
    const { servers } = make();
    const port = await freePort();
    await servers.update([check(port, 1, null)], EVERY_ADDRESS);
    await assert.rejects(ask("::1", port), refused);
  });

  it("opens, closes and moves with the Service (6.26, M03)", async () => {
    const { servers } = make();
    const [port, other] = [await freePort(), await freePort()];
    await servers.update([], LOOPBACK);
    await assert.rejects(ask("127.0.0.1", port), refused);
    await servers.update([check(port, 1)], LOOPBACK);
    assert.equal((await ask("127.0.0.1", port)).status, 200);
    await servers.update([check(other, 1)], LOOPBACK);
    await assert.rejects(ask("127.0.0.1", port), refused);
    assert.equal((await ask("127.0.0.1", other)).status, 200);
    await servers.update([check(other, 1, null, "successor")], LOOPBACK);
    assert.match((await ask("127.0.0.1", other)).body, /"name": "successor"/);
    await servers.update([check(other, 1, null, "successor")], { 4: [ip("127.0.0.2")], 6: [] });
    await assert.rejects(ask("127.0.0.1", other), refused);
    assert.equal((await ask("127.0.0.2", other)).status, 200);
    await servers.update([], LOOPBACK);
    await assert.rejects(ask("127.0.0.2", other), refused);
  });

  it("ends connections that are kept alive when it closes a port", async () => {
    const { servers } = make();
    const port = await freePort();
    await servers.update([check(port, 1)], LOOPBACK);
    const socket = connect(port, "127.0.0.1");
    socket.write("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    await once(socket, "data");
    const ended = once(socket, "close");
    await servers.update([], LOOPBACK);
    await ended;
  });

  it("tells once of a port that is taken, and has it with the first update after it is free (6.26, M07)", async () => {
    const { servers, problems } = make();
    const taken = await listen(0);
    const address = taken.address();
    assert.ok(typeof address === "object" && address !== null);
    const { port } = address;
    for (let i = 0; i < 2; i += 1) await servers.update([check(port, 1)], LOOPBACK);
    assert.equal(problems.length, 1);
    const [problem] = problems;
    assert.equal(problem?.code, "EADDRINUSE");
    assert.deepEqual(
      [problem?.namespace, problem?.name, problem?.port, problem?.family],
      ["ns1", "m", port, 4],
    );
    assert.match(problem?.message ?? "", new RegExp(`address already in use 127.0.0.1:${port}`));
    assert.deepEqual(servers.listening, []);
    taken.close();
    await once(taken, "close");
    await servers.retry();
    assert.equal((await ask("127.0.0.1", port)).status, 200);
    assert.equal(problems.length, 1);
  });

  it("names the Service that has the port already", async () => {
    const { servers, problems } = make();
    const port = await freePort();
    await servers.update([check(port, 1, null, "first"), check(port, 1, null, "second")], LOOPBACK);
    assert.equal(problems.length, 1);
    assert.equal(problems[0]?.name, "second");
    assert.match(problems[0]?.message ?? "", /it is the health check port of Service ns1\/first$/);
    await servers.update([check(port, 1, null, "second")], LOOPBACK);
    assert.match((await ask("127.0.0.1", port)).body, /"name": "second"/);
  });

  it("is silent about IPv6 on a host without it (13.4)", async () => {
    for (const code of ["EAFNOSUPPORT", "EADDRNOTAVAIL"]) {
      const { servers, problems } = make({ open: () => Promise.reject(new ListenError(code, "no")) });
      await servers.update([check(30_000, null, 1)], EVERY_ADDRESS);
      assert.deepEqual(problems, []);
      await servers.update([check(30_000, 1, null)], EVERY_ADDRESS);
      assert.equal(problems.length, 1);
    }
  });

  it("answers while silent clients hold more connections than it allows, and ends the oldest of them", async () => {
    const { servers } = make({ maxConnections: 8 });
    const port = await freePort();
    await servers.update([check(port, 1)], LOOPBACK);
    const silent: Socket[] = [];
    for (let i = 0; i < 8; i += 1) {
      const socket = connect(port, "127.0.0.1");
      await once(socket, "connect");
      silent.push(socket);
    }
    const [oldest, ...others] = silent;
    assert.ok(oldest);
    const ended = once(oldest, "close");
    assert.equal((await ask("127.0.0.1", port)).status, 200);
    await ended;
    for (const socket of others) socket.destroy();
  });

  it("refuses headers that are too long, and what is no HTTP, and goes on", async () => {
    const { servers } = make();
    const port = await freePort();
    await servers.update([check(port, 1)], LOOPBACK);
    const long = connect(port, "127.0.0.1");
    long.write(`GET / HTTP/1.1\r\nHost: x\r\nX: ${"y".repeat(20_000)}\r\n\r\n`);
    assert.match(await everything(long), /^HTTP\/1.1 431 /);
    const garbage = connect(port, "127.0.0.1");
    garbage.write("\x16\x03\x01\x02\x00\x01\x00");
    assert.match(await everything(garbage), /^HTTP\/1.1 400 /);
    const reset = connect(port, "127.0.0.1");
    await once(reset, "connect");
    reset.resetAndDestroy();
    assert.equal((await ask("127.0.0.1", port)).status, 200);
  });

  it("closes a connection whose request goes on and on", async () => {
    const { servers } = make();
    const port = await freePort();
    await servers.update([check(port, 1)], LOOPBACK);
    const socket = connect(port, "127.0.0.1");
    const closed = everything(socket);
    socket.write("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000000\r\n\r\n");
    const more = (): void => {
      while (socket.writable && socket.write(Buffer.alloc(16_384)));
    };
    socket.on("drain", more);
    more();
    await closed;
  });

  it("does nothing more after close()", async () => {
    const { servers } = make();
    const port = await freePort();
    await servers.update([check(port, 1)], LOOPBACK);
    await servers.close();
    await servers.update([check(port, 1)], LOOPBACK);
    await assert.rejects(ask("127.0.0.1", port), refused);
  });
});

describe("healthCheckAddresses()", () => {
  const own = [ip("192.0.2.1"), ip("192.0.2.2"), ip("2001:db8::1")];
  const cidr = (text: string) => {
    const range = parseCidr(text);
    assert.ok(range);
    return range;
  };
  it("is every address of a family without ranges, or with a range of length 0 (6.2, 6.20)", () => {
    assert.deepEqual(healthCheckAddresses([], own), EVERY_ADDRESS);
    assert.deepEqual(healthCheckAddresses([cidr("192.0.2.0/24")], own), { 4: own.slice(0, 2), 6: "any" });
    assert.deepEqual(healthCheckAddresses([cidr("192.0.2.0/24"), cidr("0.0.0.0/0")], own), EVERY_ADDRESS);
  });
  it("is each matching address otherwise, also with none of a family (6.3, 6.4)", () => {
    assert.deepEqual(healthCheckAddresses("primary", [ip("192.0.2.1")]), { 4: [ip("192.0.2.1")], 6: [] });
    const six = [cidr("192.0.2.0/24"), cidr("2001:db8::/32")];
    assert.deepEqual(healthCheckAddresses(six, own), { 4: own.slice(0, 2), 6: [ip("2001:db8::1")] });
  });
});

function everything(socket: Socket): Promise<string> {
  return new Promise((resolve) => {
    let text = "";
    socket.on("data", (piece: Buffer) => {
      text += piece.toString("latin1");
    });
    socket.on("error", () => {});
    socket.once("close", () => resolve(text));
  });
}
