// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { createSocket } from "node:dgram";
import { once } from "node:events";
import { createServer } from "node:net";
import { endianness } from "node:os";
import { test } from "node:test";
import {
  type ListenerTables,
  readListeners,
  reservedAddresses,
} from "../../../src/daemon/local-listeners.js";
import {
  type BoundSocket,
  type Endianness,
  parseTcpListeners,
  parseUdpSockets,
  TcpListenerReader,
} from "../../../src/daemon/local-listeners-text.js";
import { ip } from "../../fixtures/objects.js";
import { leastOf } from "../../support/awake.js";

const HEADING =
  "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n";
const TAIL = "00000000:00000000 00:00000000 00000000     0        0 1520 1 0000000033c28ce9 100 0 0 10 0\n";

/** A line as the kernel prints it. */
function line(local: string, state: string, remote = "00000000:0000", number = 0): string {
  return `${String(number).padStart(4)}: ${local} ${remote} ${state} ${TAIL}`;
}

const texts = (sockets: readonly BoundSocket[]): readonly string[] =>
  sockets.map(({ address, port }) => `${address.text} ${port}`);
const NOWHERE6 = `${"0".repeat(32)}:0000`;

test("parseTcpListeners() reads sockets in LISTEN of both families, in the machine's byte order", () => {
  const four = `${HEADING}${line("0100007F:0016", "0A")}${line("0200A8C0:7530", "0A", undefined, 1)}`;
  assert.deepEqual(texts(parseTcpListeners(four, "LE")), ["127.0.0.1 22", "192.168.0.2 30000"]);
  assert.deepEqual(texts(parseTcpListeners(line("C0A80002:7530", "0A"), "BE")), ["192.168.0.2 30000"]);
  const six = line("B80D0120000000000000000001000000:0050", "0A", NOWHERE6);
  assert.deepEqual(texts(parseTcpListeners(HEADING + six, "LE")), ["2001:db8::1 80"]);
  assert.deepEqual(
    texts(parseTcpListeners(line("20010DB8000000000000000000000001:0050", "0A", NOWHERE6), "BE")),
    ["2001:db8::1 80"],
  );
  const mapped = line("0000000000000000FFFF00000200A8C0:0050", "0A", NOWHERE6);
  assert.deepEqual(texts(parseTcpListeners(mapped, "LE")), ["192.168.0.2 80"]);
});

test("parseTcpListeners() passes over connections, and parseUdpSockets() over connected sockets", () => {
  const established = line("0200A8C0:7530", "01", "0300A8C0:8001");
  assert.deepEqual(parseTcpListeners(HEADING + established, "LE"), []);
  const udp = `${line("00000000:0035", "07")}${line("0200A8C0:0035", "01", "0300A8C0:8001")}`;
  assert.deepEqual(texts(parseUdpSockets(udp, "LE")), ["0.0.0.0 53"]);
  assert.deepEqual(parseUdpSockets(line("00000000:0000", "07"), "LE"), [], "a socket without a port");
});

const GARBAGE = [
  "",
  "\n\n\n",
  "\0".repeat(1000),
  HEADING,
  "   0: 0100007F:0016",
  line("0100007F:0016", "ZZ"),
  line("010000:0016", "0A"),
  line("0100007F0100007F:0016", "0A"),
  line("0100007G:0016", "0A"),
  `x${line("0100007F:0016", "0A")}`,
  "a".repeat(100_000),
];

for (const order of ["LE", "BE"] as const satisfies readonly Endianness[]) {
  test(`parseTcpListeners(), parseUdpSockets() and TcpListenerReader find nothing in garbage (${order})`, () => {
    for (const text of GARBAGE) {
      assert.deepEqual(parseTcpListeners(text, order), []);
      assert.deepEqual(parseUdpSockets(text, order), []);
      const reader = new TcpListenerReader(order);
      for (let at = 0; at < text.length && reader.push(text.slice(at, at + 4096)); at += 4096);
      assert.deepEqual(reader.sockets, []);
    }
  });
}

test("TcpListenerReader finds the same however the text is cut", () => {
  const lines = Array.from({ length: 40 }, (_, i) =>
    line(`0200A8C0:${(1000 + i).toString(16).toUpperCase().padStart(4, "0")}`, "0A", undefined, i),
  );
  const text = HEADING + lines.join("") + line("0200A8C0:7530", "01", "0300A8C0:8001");
  const all = texts(parseTcpListeners(text, "LE"));
  assert.equal(all.length, 40);
  for (const size of [1, 7, 150, 1024, 1 << 20]) {
    const reader = new TcpListenerReader("LE");
    for (let at = 0; at < text.length; at += size) reader.push(text.slice(at, at + size));
    assert.deepEqual(texts(reader.sockets), all, `pieces of ${size}`);
  }
});

test("TcpListenerReader wants no more once connections come", () => {
  const reader = new TcpListenerReader("LE");
  assert.equal(reader.push(HEADING + line("0200A8C0:0016", "0A")), true);
  assert.equal(
    reader.push(line("0200A8C0:0050", "0A") + line("0200A8C0:7530", "01", "0300A8C0:8001")),
    false,
  );
  assert.equal(reader.push(line("0200A8C0:0051", "0A")), false);
  assert.deepEqual(texts(reader.sockets), ["192.168.0.2 22", "192.168.0.2 80"]);
});

test("parseUdpSockets() reads tens of thousands of lines in less than a second", async () => {
  const many = Array.from({ length: 50_000 }, (_, i) =>
    line(
      `0200A8C0:${((i % 65_535) + 1).toString(16).toUpperCase().padStart(4, "0")}`,
      i % 2 === 0 ? "07" : "01",
      undefined,
      i,
    ),
  );
  const text = HEADING + many.join("");
  const attempts = await leastOf(1_000, () => {
    const start = performance.now();
    assert.equal(parseUdpSockets(text, "LE").length, 25_000);
    return performance.now() - start;
  });
  assert.ok(Math.min(...attempts) < 1_000, `${attempts} ms`);
});

const socket = (address: string, port: number): BoundSocket => ({ address: ip(address), port });
const tables = (fields: Partial<ListenerTables>): ListenerTables => ({
  tcp: [],
  udp: [],
  ephemeral: { first: 32_768, last: 60_999 },
  ...fields,
});
const shown = (
  input: ListenerTables,
  exclude: Parameters<typeof reservedAddresses>[1] = [],
): readonly string[] =>
  reservedAddresses(input, exclude).map(
    ({ address, port, protocol, use }) => `${protocol} ${address?.text ?? "*"} ${port} ${use}`,
  );

test("reservedAddresses() takes a wildcard socket of either family for every local address", () => {
  const tcp = [socket("::", 22), socket("0.0.0.0", 22), socket("0.0.0.0", 80), socket("192.0.2.1", 53)];
  assert.deepEqual(shown(tables({ tcp })), [
    "TCP * 22 a listening socket",
    "TCP 192.0.2.1 53 a listening socket",
    "TCP * 80 a listening socket",
  ]);
});

test("reservedAddresses() leaves out what only this host reaches", () => {
  const local = [socket("127.0.0.1", 25), socket("127.0.0.53", 53), socket("::1", 25)];
  assert.deepEqual(shown(tables({ tcp: local, udp: local })), []);
});

test("reservedAddresses() leaves out UDP sockets on ephemeral ports, and never TCP listeners", () => {
  const both = [
    socket("0.0.0.0", 32_767),
    socket("0.0.0.0", 32_768),
    socket("::", 60_999),
    socket("::", 61_000),
  ];
  assert.deepEqual(shown(tables({ udp: both })), [
    "UDP * 32767 a bound UDP socket",
    "UDP * 61000 a bound UDP socket",
  ]);
  assert.equal(shown(tables({ tcp: both })).length, 4);
  assert.equal(shown(tables({ udp: both, ephemeral: null })).length, 4);
});

test("reservedAddresses() leaves out our own sockets, and nothing that only has their port", () => {
  const tcp = [socket("0.0.0.0", 30_000), socket("192.0.2.1", 30_001), socket("192.0.2.2", 30_001)];
  const udp = [socket("0.0.0.0", 30_000)];
  const exclude = [
    { address: null, port: 30_000 },
    { address: ip("192.0.2.1"), port: 30_001 },
  ];
  assert.deepEqual(shown(tables({ tcp, udp }), exclude), [
    "TCP 192.0.2.2 30001 a listening socket",
    "UDP * 30000 a bound UDP socket",
  ]);
});

test("readListeners() sees a wildcard socket of this process, and not one that is excluded or on loopback", async () => {
  const [open, local] = [createServer(), createServer()];
  open.listen(0, "0.0.0.0");
  local.listen(0, "127.0.0.1");
  const connected = createSocket("udp4");
  connected.connect(9, "127.0.0.1");
  await Promise.all([once(open, "listening"), once(local, "listening"), once(connected, "connect")]);
  const portOf = (server: typeof open): number => {
    const address = server.address();
    assert.ok(typeof address === "object" && address !== null);
    return address.port;
  };
  const ports = (found: Awaited<ReturnType<typeof readListeners>>, protocol: string): readonly number[] =>
    found.filter((one) => one.protocol === protocol).map(({ port }) => port);
  const found = await readListeners();
  assert.ok(ports(found, "TCP").includes(portOf(open)), `${endianness()}`);
  assert.ok(!ports(found, "TCP").includes(portOf(local)));
  assert.ok(!ports(found, "UDP").includes(connected.address().port));
  const without = await readListeners([{ address: null, port: portOf(open) }]);
  assert.ok(!ports(without, "TCP").includes(portOf(open)));
  open.close();
  local.close();
  connected.close();
});
