// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:net";
import { after, describe, it } from "node:test";
import {
  type BindFailure,
  KeptServer,
  type KeptServerOptions,
} from "../../../../src/daemon/servers/kept-server.js";
import { plainText } from "../../../../src/daemon/servers/reply.js";
import { silentLogger } from "../../../../src/util/log.js";
import { ask } from "./ask.js";
import { FakeTimers } from "./fake-timers.js";

const open: KeptServer[] = [];
after(() => Promise.all(open.map((server) => server.close())));

function make(options: Partial<KeptServerOptions> & Pick<KeptServerOptions, "address">): KeptServer {
  const server = new KeptServer({
    name: "test",
    respond: () => plainText(200, "ok"),
    onHardFail: null,
    log: silentLogger,
    ...options,
  });
  open.push(server);
  return server;
}

/** A port of loopback that somebody else has. */
async function occupied(): Promise<{ port: number; release: () => Promise<void> }> {
  const holder = createServer();
  holder.listen({ host: "127.0.0.1", port: 0 });
  await once(holder, "listening");
  const address = holder.address();
  assert.ok(typeof address === "object" && address !== null);
  return {
    port: address.port,
    release: async () => {
      holder.close();
      await once(holder, "close");
    },
  };
}

/** Until the condition holds; by turns of the event loop, not by time. */
async function until(condition: () => boolean): Promise<void> {
  for (let turns = 0; !condition(); turns += 1) {
    assert.ok(turns < 10_000, "it never came to be");
    await new Promise((resolve) => setImmediate(resolve));
  }
}

describe("KeptServer", () => {
  it("tries again every 5 s while the port is taken, for ever, and says so once (10.9)", async () => {
    const { port, release } = await occupied();
    const timers = new FakeTimers();
    const errors: unknown[] = [];
    const log = { ...silentLogger, error: (fields: unknown) => void errors.push(fields) };
    const server = make({ address: { host: "127.0.0.1", port }, timers, log });
    await server.start();
    for (let i = 0; i < 3; i += 1) {
      assert.equal(server.listening, null);
      assert.deepEqual(timers.waiting, [5_000]);
      timers.advance(5_000);
      await until(() => timers.waiting.length > 0);
    }
    assert.equal(errors.length, 1);
    await release();
    timers.advance(5_000);
    await until(() => server.listening !== null);
    assert.equal((await ask(server.listening, "/")).body, "ok");
    assert.deepEqual(timers.waiting, []);
  });

  it("reports a taken port once and gives up with bindAddressHardFail (10.9)", async () => {
    const { port, release } = await occupied();
    const timers = new FakeTimers();
    const failures: BindFailure[] = [];
    const server = make({
      address: { host: "127.0.0.1", port },
      timers,
      onHardFail: (failure) => void failures.push(failure),
    });
    await server.start();
    assert.deepEqual(
      failures.map(({ server: name, code }) => [name, code]),
      [["test", "EADDRINUSE"]],
    );
    assert.deepEqual(timers.waiting, []);
    await release();
  });

  it("tries no more after close()", async () => {
    const { port, release } = await occupied();
    const timers = new FakeTimers();
    const server = make({ address: { host: "127.0.0.1", port }, timers });
    await server.start();
    await server.close();
    assert.deepEqual(timers.waiting, []);
    await release();
  });

  it("answers on both families when it is bound to the wildcard of one", async () => {
    for (const host of ["0.0.0.0", "::"]) {
      const server = make({ address: { host, port: 0 } });
      await server.start();
      const port = server.listening?.port ?? 0;
      assert.equal((await ask({ host: "127.0.0.1", port }, "/")).status, 200);
      assert.equal((await ask({ host: "::1", port }, "/")).status, 200);
    }
  });

  it("answers 500 when the answer cannot be made, and goes on", async () => {
    let broken = true;
    const respond = (): ReturnType<typeof plainText> => {
      if (broken) throw new Error("secret detail");
      return plainText(200, "ok");
    };
    const server = make({ address: { host: "127.0.0.1", port: 0 }, respond });
    await server.start();
    const answer = await ask(server.listening, "/");
    assert.deepEqual([answer.status, answer.body], [500, "internal error\n"]);
    broken = false;
    assert.equal((await ask(server.listening, "/")).status, 200);
  });

  it("lets the oldest of too many connections go, and serves the newest", async () => {
    const server = make({ address: { host: "127.0.0.1", port: 0 }, maxConnections: 2 });
    await server.start();
    const { connect } = await import("node:net");
    const port = server.listening?.port ?? 0;
    const silent = connect({ host: "127.0.0.1", port });
    silent.on("error", () => {});
    await once(silent, "connect");
    const gone = once(silent, "close");
    const second = connect({ host: "127.0.0.1", port });
    await once(second, "connect");
    assert.equal((await ask(server.listening, "/")).status, 200);
    await gone;
    second.destroy();
  });
});
