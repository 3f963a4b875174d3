// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { test } from "node:test";
import { BackendState, Direction } from "../../../src/abi/enums.gen.js";
import { FAMILY_CODECS } from "../../../src/abi/layout.gen.js";
import { StaleSockets, type UdpTarget } from "../../../src/daemon/stale-sockets.js";
import type { BackendImage, Image, ServicePortImage } from "../../../src/image/types.js";
import { MemoryKernel } from "../../../src/native/memory.js";
import { type IpAddress, type Protocol, parseIp } from "../../../src/net/ip.js";
import { protocolNumber } from "../../../src/net/port.js";
import type { Logger } from "../../../src/util/log.js";

function ip(text: string): IpAddress {
  const address = parseIp(text);
  assert.ok(address, text);
  return address;
}

interface Entry {
  readonly cookie: number;
  readonly backend: string;
  readonly cell: number;
  readonly generation?: number;
  readonly protocol?: Protocol;
  readonly direction?: Direction;
}

/** What the connect hook writes for a socket. */
async function connect(kernel: MemoryKernel, entry: Entry): Promise<void> {
  const address = ip(entry.backend);
  const { socketKey, socketValue } = FAMILY_CODECS[address.family];
  const keys = socketKey.encode({
    cookie: [entry.cookie, 7],
    addr: address.bytes,
    port: 53,
    protocol: protocolNumber(entry.protocol ?? "UDP"),
    direction: entry.direction ?? Direction.OUT,
  });
  const addr = address.family === 4 ? ip("10.96.0.10").bytes : ip("fd00::10").bytes;
  const values = socketValue.encode({
    addr,
    port: 53,
    backend: entry.cell,
    generation: entry.generation ?? 1,
  });
  await kernel.apply([{ map: `socket_nat${address.family}`, kind: "update", count: 1, keys, values }]);
}

async function cell(
  kernel: MemoryKernel,
  index: number,
  backend: string,
  state: BackendState,
  generation = 1,
): Promise<void> {
  const address = ip(backend);
  const fields = { addr: address.bytes, port: 53, state, flags: 0, generation, service: 1 };
  const values = FAMILY_CODECS[address.family].backend.encode(fields);
  const keys = Uint8Array.of(index, 0, 0, 0);
  await kernel.apply([{ map: `backends${address.family}`, kind: "update", count: 1, keys, values }]);
}

function image(protocol: Protocol, ...serving: readonly string[]): Image {
  const backends = serving.map(
    (text): BackendImage => ({
      address: ip(text),
      port: 53,
      local: false,
      serving: !text.endsWith("99"),
      clusterSet: false,
      localSet: false,
    }),
  );
  const key = `default/dns:dns/${protocol}`;
  const names = { key, namespace: "default", name: "dns", portName: "dns", protocol };
  const port: ServicePortImage = { ...names, backends, frontends: [], affinitySeconds: 0, sourceRanges: [] };
  return {
    servicePorts: new Map([[key, port]]),
    problems: [],
    nodePortAddresses: [],
    serviceNetworks: [],
  };
}

function setUp(answer: { unsupported?: boolean; failures?: number } = {}) {
  const kernel = new MemoryKernel();
  const destroyed: UdpTarget[] = [];
  const messages: string[] = [];
  let failures = answer.failures ?? 0;
  const say = (_fields: Readonly<Record<string, unknown>>, message: string): void => {
    messages.push(message);
  };
  const log: Logger = { debug: say, info: say, warn: say, error: say };
  const sockets = new StaleSockets({
    maps: kernel,
    log,
    destroy: (targets) => {
      if (failures > 0) {
        failures -= 1;
        throw new Error("no buffer space");
      }
      destroyed.push(...targets);
      return { destroyed: targets.length, unsupported: answer.unsupported ?? false };
    },
  });
  const texts = (): string[] =>
    destroyed.map(({ cookie, address, port }) => `${cookie & 0xffffn} ${address.text} ${port}`);
  return { kernel, sockets, destroyed, texts, messages };
}

test("StaleSockets ends the UDP sockets whose backend is gone, drains or was replaced, of both families, and no other", async () => {
  const { kernel, sockets, texts, destroyed } = setUp();
  await cell(kernel, 0, "10.1.0.1", BackendState.BACKEND_LIVE);
  await cell(kernel, 1, "10.1.0.2", BackendState.BACKEND_FREE, 2);
  await cell(kernel, 2, "10.1.0.3", BackendState.BACKEND_DRAINING);
  await cell(kernel, 3, "10.1.0.9", BackendState.BACKEND_LIVE, 2);
  await cell(kernel, 4, "fd01::1", BackendState.BACKEND_LIVE);
  await connect(kernel, { cookie: 1, backend: "10.1.0.1", cell: 0 });
  await connect(kernel, { cookie: 2, backend: "10.1.0.2", cell: 1 });
  await connect(kernel, { cookie: 3, backend: "10.1.0.3", cell: 2 });
  await connect(kernel, { cookie: 4, backend: "10.1.0.4", cell: 3 });
  await connect(kernel, { cookie: 5, backend: "fd01::1", cell: 4 });
  await connect(kernel, { cookie: 6, backend: "fd01::2", cell: 5, generation: 0 });
  await connect(kernel, { cookie: 7, backend: "10.1.0.2", cell: 1, protocol: "TCP" });
  await connect(kernel, { cookie: 8, backend: "10.1.0.2", cell: 1, direction: Direction.IN });
  await sockets.sweep();
  assert.deepEqual(texts(), ["2 10.1.0.2 53", "3 10.1.0.3 53", "4 10.1.0.4 53", "6 fd01::2 53"]);
  assert.equal(destroyed[0]?.cookie, (7n << 32n) | 2n, "both words");
  assert.equal(kernel.size("socket_nat4"), 3, "TCP's, the unconnected one's and the serving one's stay");
  assert.equal(kernel.size("socket_nat6"), 1);
  await sockets.sweep();
  assert.equal(destroyed.length, 4, "once each");
});

test("StaleSockets looks at the first image, and then only when a UDP backend has stopped serving (9.3)", async () => {
  const { kernel, sockets } = setUp();
  const looks = async (next: Image): Promise<boolean> => {
    const before = kernel.stats.ffiCalls;
    await sockets.committed(next);
    return kernel.stats.ffiCalls > before;
  };
  assert.equal(
    await looks(image("UDP", "10.1.0.1", "10.1.0.2")),
    true,
    "an earlier agent may have missed one",
  );
  assert.equal(await looks(image("UDP", "10.1.0.1", "10.1.0.2")), false);
  assert.equal(await looks(image("UDP", "10.1.0.1", "10.1.0.2", "10.1.0.3")), false, "one more");
  assert.equal(await looks(image("UDP", "10.1.0.1", "10.1.0.3")), true, "one less");
  assert.equal(await looks(image("UDP", "10.1.0.1", "10.1.0.3", "10.1.0.99")), false);
  assert.equal(await looks(image("UDP", "10.1.0.1", "10.1.0.3")), false, "it did not serve before");
  assert.equal(await looks(image("TCP", "10.1.0.1")), true, "the UDP port has gone as a whole");
  assert.equal(await looks(image("TCP")), false, "a TCP connection stays as it is");
});

test("StaleSockets tries again with the next look what could not be ended", async () => {
  const { kernel, sockets, texts, messages } = setUp({ failures: 1 });
  await connect(kernel, { cookie: 2, backend: "10.1.0.2", cell: 1 });
  await sockets.sweep();
  assert.deepEqual(texts(), []);
  assert.deepEqual(messages, ["cannot look for sockets of removed backends"]);
  await sockets.sweep();
  assert.deepEqual(texts(), ["2 10.1.0.2 53"]);
});

test("StaleSockets leaves the entry of a socket that is not connected, whose answers may be under way", async () => {
  const { kernel, sockets, texts } = setUp();
  await connect(kernel, { cookie: 2, backend: "10.1.0.2", cell: 1 });
  // What sendmsg(2) writes beside it: the Service's address is the key.
  const { socketKey, socketValue } = FAMILY_CODECS[4];
  const key = { cookie: [2, 7], addr: ip("10.96.0.10").bytes, port: 53, protocol: 17 } as const;
  const keys = socketKey.encode({ ...key, direction: Direction.IN });
  const values = socketValue.encode({ addr: ip("10.1.0.2").bytes, port: 53, backend: 1, generation: 1 });
  await kernel.apply([{ map: "socket_nat4", kind: "update", count: 1, keys, values }]);
  await connect(kernel, { cookie: 3, backend: "10.1.0.2", cell: 1 });
  await sockets.sweep();
  assert.equal(kernel.size("socket_nat4"), 2, "both of socket 2");
  assert.deepEqual(
    texts(),
    ["2 10.1.0.2 53", "3 10.1.0.2 53"],
    "the kernel ends only those that are connected",
  );
});

test("StaleSockets says once that the kernel cannot end sockets, and looks no more", async () => {
  const { kernel, sockets, messages } = setUp({ unsupported: true });
  await connect(kernel, { cookie: 2, backend: "10.1.0.2", cell: 1 });
  await sockets.sweep();
  await connect(kernel, { cookie: 3, backend: "10.1.0.2", cell: 1 });
  const calls = kernel.stats.ffiCalls;
  await sockets.sweep();
  assert.equal(kernel.stats.ffiCalls, calls);
  assert.deepEqual(messages, ["this kernel cannot end sockets of removed backends"]);
});
