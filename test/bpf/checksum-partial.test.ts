// SPDX-License-Identifier: Apache-2.0
/**
 * Packets whose checksum the device is to finish (CHECKSUM_PARTIAL): real sockets send through the attached program, and
 * what leaves holds the sum of the new pseudo header. Test-run makes no such packets.
 */
import assert from "node:assert/strict";
import { createSocket } from "node:dgram";
import { once } from "node:events";
import { connect } from "node:net";
import { join } from "node:path";
import { after } from "node:test";
import { promisify } from "node:util";
import { Role } from "../../src/abi/enums.gen.js";
import { NativeLibrary } from "../../src/native/lib.js";
import { addressBytes } from "../support/packet-address.js";
import { onesComplementSum, pseudoHeader } from "../support/packet-checksum.js";
import { dissectFrame, fieldText } from "../support/packet-dissect.js";
import { addressesOf, type Host } from "./support/addresses.js";
import { isolate, ownBpffs } from "./support/isolate.js";
import { Bench, type Lab, twins } from "./support/lab.js";
import { dns, web } from "./support/scenario.js";
import { TEST_CONFIG } from "./support/test-kernel.js";
import { capture, FAR_MAC, ip, makeWire, removeWire } from "./support/wire.js";

isolate();
const library = new NativeLibrary();
const kernel = await library.open({
  pins: join(ownBpffs(library), "v1"),
  config: TEST_CONFIG,
  maxEntries: { nat4: 64, nat6: 64 },
});
after(() => kernel.close());
const bench = new Bench(kernel);

const near = makeWire();
after(removeWire);
for (const family of [4, 6] as const) {
  const at = addressesOf(family);
  const bits = family === 4 ? 32 : 128;
  ip("address", "add", `${at.backend}/${bits}`, "dev", "near", ...(family === 6 ? ["nodad"] : []));
  ip("route", "add", `${at.client}/${bits}`, "dev", "near");
  ip("neighbour", "add", at.client, "lladdr", FAR_MAC, "dev", "near");
}
const [attached] = await kernel.attach([{ ifindex: near, role: Role.UPLINK, mode: "auto" }]);
assert.ok(attached?.ok, "the programs are attached");

/** The folded sum of a pseudo header as a field shows it. */
function partial(lab: Lab, src: Host, protocol: number, length: number): string {
  const ends = [addressBytes(lab.at[src]), addressBytes(lab.at.client)] as const;
  return `0x${onesComplementSum(pseudoHeader(...ends, protocol, length))
    .toString(16)
    .padStart(4, "0")}`;
}

type SendTo = (data: Buffer, port: number, address: string, done: (error: Error | null) => void) => void;

/** A datagram from backend:port to client:40000. */
async function sendDatagram(lab: Lab, port: number, size: number): Promise<void> {
  const socket = createSocket(lab.family === 4 ? "udp4" : "udp6");
  socket.bind(port, lab.at.backend);
  await once(socket, "listening");
  await promisify(socket.send.bind(socket) as SendTo)(Buffer.alloc(size, "x"), 40000, lab.at.client);
  await new Promise((resolve) => socket.close(() => resolve(undefined)));
}

twins(
  bench,
  "A datagram whose sum is partial leaves with the partial sum of its new addresses",
  async (lab) => {
    const service = await dns(lab);
    const rest = { cell: service.cells[0] ?? 0, service: service.index };
    await lab.setNat("OUT udp backend:5353 > client:40000 => vip:53, peer 40000, forward [reply]", rest);
    for (const size of [0, 1, 100, 1201]) {
      const translated = dissectFrame(
        await capture("udp and dst port 40000", () => sendDatagram(lab, 5353, size)),
      );
      assert.equal(fieldText(translated, "ip.src"), lab.at.vip);
      assert.equal(fieldText(translated, "udp.sport"), "53");
      assert.equal(fieldText(translated, "udp.checksum"), partial(lab, "vip", 17, 8 + size), `${size} bytes`);
      assert.ok(
        translated.checksums.every((c) => c.name !== "ip.checksum" || c.ok),
        "the IPv4 header's own sum",
      );
      // Without an entry: it really is the kernel that leaves the sum partial.
      const own = dissectFrame(await capture("udp and dst port 40000", () => sendDatagram(lab, 5354, size)));
      assert.equal(fieldText(own, "ip.src"), lab.at.backend);
      assert.equal(fieldText(own, "udp.checksum"), partial(lab, "backend", 17, 8 + size));
    }
  },
);

twins(
  bench,
  "A TCP segment whose sum is partial leaves with the partial sum of its new addresses",
  async (lab) => {
    const service = await web(lab);
    const rest = { cell: service.cells[0] ?? 0, service: service.index };
    await lab.setNat("OUT tcp backend:8080 > client:40000 => vip:80, peer 40000, forward [reply]", rest);
    const frame = await capture("tcp and dst port 40000", async () => {
      const socket = connect({
        host: lab.at.client,
        port: 40000,
        localAddress: lab.at.backend,
        localPort: 8080,
      });
      socket.on("error", () => undefined);
      after(() => socket.destroy());
    });
    const segment = dissectFrame(frame);
    const header = lab.family === 4 ? 14 + 20 : 14 + 40;
    assert.equal(fieldText(segment, "ip.src"), lab.at.vip);
    assert.equal(fieldText(segment, "tcp.sport"), "80");
    assert.match(fieldText(segment, "tcp.flags"), /^S,/);
    assert.equal(fieldText(segment, "tcp.checksum"), partial(lab, "vip", 6, frame.length - header));
  },
);
