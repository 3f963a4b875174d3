// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { parseEndpoint } from "../../../src/cli/commands/trace/handler.js";
import { FAMILIES, parseIp } from "../../../src/net/ip.js";
import {
  buildFrame,
  type Endpoint,
  type Packet,
  readFrame,
  replyTo,
  type TcpFlag,
  TRACE_PROTOCOLS,
} from "../../../src/trace/packet.js";
import { packetText } from "../../../src/trace/text.js";
import { checkPacket } from "../../../src/trace/trace.js";
import { AppError, UserError } from "../../../src/util/errors.js";
import { checksumProblems } from "../../support/packet-dissect.js";

const ADDRESSES = { 4: ["10.244.1.5", "10.96.0.10"], 6: ["fd00:10:244::5", "fd00:10:96::a"] } as const;

function end(text: string, port: number): Endpoint {
  const address = parseIp(text);
  assert.ok(address);
  return { address, port };
}

function packet(family: 4 | 6, protocol: Packet["protocol"], flags: readonly TcpFlag[] = []): Packet {
  const [source, destination] = ADDRESSES[family];
  const ports = protocol === "icmp" ? [0, 0] : [40_000, 80];
  return {
    protocol,
    source: end(source, ports[0] as number),
    destination: end(destination, ports[1] as number),
    flags,
  };
}

const FLAG_SETS: readonly (readonly TcpFlag[])[] = [
  ["syn"],
  ["syn", "ack"],
  ["ack"],
  ["rst"],
  ["fin", "ack"],
];

describe("the packets of a trace", () => {
  for (const family of FAMILIES) {
    for (const protocol of TRACE_PROTOCOLS) {
      const flagged = protocol === "tcp" || protocol === "sctp";
      for (const flags of flagged ? FLAG_SETS : [[]]) {
        it(`have right lengths and checksums: ${protocol} over IPv${family} [${flags.join(" ")}]`, () => {
          const frame = buildFrame(packet(family, protocol, flags));
          assert.deepEqual(checksumProblems(frame), []);
          const view = readFrame(frame);
          assert.equal(view.protocol, protocol);
          assert.equal(view.length, frame.length - 14);
          // SCTP tells a packet by its first chunk: FIN is none
          const told = protocol === "sctp" ? flags.filter((flag) => flag !== "fin") : flags;
          assert.deepEqual(view.flags, told);
          assert.equal(view.source.address.text, ADDRESSES[family][0]);
          assert.equal(view.destination.port, protocol === "icmp" ? 0 : 80);
        });
      }
      it(`are answered the other way round: ${protocol} over IPv${family}`, () => {
        const asked = packet(family, protocol, flagged ? ["syn"] : []);
        const reply = readFrame(buildFrame(replyTo(asked)));
        assert.deepEqual(checksumProblems(buildFrame(replyTo(asked))), []);
        assert.equal(reply.source.address.text, asked.destination.address.text);
        assert.equal(reply.destination.port, asked.source.port);
        assert.deepEqual(reply.flags, flagged ? ["syn", "ack"] : []);
        if (protocol === "icmp") assert.equal(reply.icmp?.name, "echo reply");
      });
    }
  }

  it("read as one line", () => {
    const text = (of: Packet): string => packetText(readFrame(buildFrame(of)));
    assert.equal(text(packet(4, "tcp", ["syn"])), "tcp 10.244.1.5:40000 > 10.96.0.10:80 [syn]");
    assert.equal(text(packet(6, "udp")), "udp [fd00:10:244::5]:40000 > [fd00:10:96::a]:80");
    assert.equal(text(packet(4, "icmp")), "icmp 10.244.1.5 > 10.96.0.10 echo request");
  });
});

describe("a question that cannot be", () => {
  const refused = (of: Packet, message: RegExp): void => {
    assert.throws(
      () => checkPacket(of),
      (error) => error instanceof AppError && error.code === "E_TRACE_PACKET" && message.test(error.message),
    );
  };

  it("is refused: two families, no port, a port of icmp, flags of udp", () => {
    refused({ ...packet(4, "tcp"), source: end("fd00::1", 1) }, /two families/);
    refused({ ...packet(4, "udp"), destination: end("10.0.0.1", 0) }, /10\.0\.0\.1 needs a port/);
    refused({ ...packet(4, "icmp"), source: end("10.0.0.1", 7) }, /icmp has no ports/);
    refused(packet(6, "udp", ["syn"]), /udp has no flags/);
    checkPacket(packet(6, "tcp", ["syn"]));
  });

  it("is refused as it is typed: what is no address, and no port", () => {
    for (const text of [
      "",
      "nowhere:80",
      "10.0.0.256:1",
      "10.0.0.1:0",
      "10.0.0.1:65536",
      "[10.0.0.1",
      "[fd00::1]80",
    ])
      assert.throws(() => parseEndpoint("--src", text), UserError, text);
  });

  it("reads addresses with and without ports", () => {
    const read = (text: string): string => {
      const { address, port } = parseEndpoint("--dst", text);
      return `${address.text} ${port}`;
    };
    assert.deepEqual(["10.0.0.1", "10.0.0.1:80", "fd00::1", "[fd00::1]", "[fd00::1]:53"].map(read), [
      "10.0.0.1 0",
      "10.0.0.1 80",
      "fd00::1 0",
      "fd00::1 0",
      "fd00::1 53",
    ]);
  });
});
