// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join as joinPath } from "node:path";
import test from "node:test";
import {
  buildFrame,
  bytes,
  echo,
  ICMP_ERROR_NAMES,
  icmpError,
  icmpRedirect,
  neighbourSolicitation,
  type Packet,
  sctp,
  tcp,
  text,
  udp,
} from "../../support/packet.js";
import { crc32c, onesComplementSum } from "../../support/packet-checksum.js";
import { diffFrames } from "../../support/packet-diff.js";
import { checksumProblems, dissectFrame, fieldText } from "../../support/packet-dissect.js";

const V4 = { src: "10.244.1.10", dst: "10.96.65.65" } as const;
const V6 = { src: "fd00:244:1::a", dst: "fd00:96::41" } as const;

/** Every kind of packet the builder knows, all of them well-formed. */
const SAMPLES: readonly (readonly [string, Packet])[] = [V4, V6].flatMap((ends) => {
  const v6 = ends === V6;
  const inner: Packet = { src: ends.dst, dst: ends.src, payload: tcp(6379, 40000, "A") };
  const one = (name: string, more: Partial<Packet> & Pick<Packet, "payload">): readonly [string, Packet] => [
    `${v6 ? "v6" : "v4"} ${name}`,
    { ...ends, ...more },
  ];
  return [
    one("tcp syn", { payload: tcp(40000, 6379, "S", { options: bytes(2, 4, 5, 180) }) }),
    one("tcp data of odd length", { payload: tcp(40000, 6379, "PA", { data: text("odd") }) }),
    one("udp", { payload: udp(40000, 9999) }),
    one("udp in a tagged frame", { payload: udp(40000, 9999), vlan: 7 }),
    one("udp with padding behind it", { payload: udp(1, 2, "x"), trailer: new Uint8Array(9) }),
    one("sctp init", { payload: sctp(40000, 3868, "init") }),
    one("sctp data of odd length", { payload: sctp(40000, 3868, "data") }),
    one("echo", { payload: echo(v6 ? 6 : 4) }),
    one("redirect", { payload: icmpRedirect(ends.src, inner) }),
    ...ICMP_ERROR_NAMES.map((name) => one(name, { payload: icmpError(name, inner, { word: 1400 }) })),
    ...(v6
      ? [
          one("neighbour solicitation", { payload: neighbourSolicitation(ends.dst), ttl: 255 }),
          one("tcp behind options", {
            payload: tcp(1, 2),
            extensions: [{ kind: "hop-by-hop" }, { kind: "dest-opts", data: new Uint8Array(20) }],
          }),
          one("udp behind an authentication header", { payload: udp(1, 2), extensions: [{ kind: "ah" }] }),
          one("udp behind an atomic fragment header", {
            payload: udp(1, 2),
            extensions: [{ kind: "fragment", offset: 0, more: false }],
          }),
        ]
      : [one("tcp behind IP options", { payload: tcp(1, 2), options: bytes(148, 4, 0, 0) })]),
  ];
});

test("buildFrame() gives every sample packet right checksums", () => {
  for (const [name, packet] of SAMPLES) {
    const frame = buildFrame(packet);
    assert.ok(dissectFrame(frame).checksums.length > 0, `${name}: no checksum was looked at`);
    assert.deepEqual(checksumProblems(frame), [], name);
  }
});

test("checksumProblems() finds each flipped bit that a checksum covers", () => {
  for (const ends of [V4, V6]) {
    const frame = buildFrame({ ...ends, payload: udp(40000, 9999, "0123") });
    const ipStart = 14;
    const ttl = ends === V4 ? 22 : 21;
    for (let at = ipStart; at < frame.length; at++) {
      // IPv6 has no header checksum: of its header only the addresses are covered.
      if (ends === V6 && at <= ttl) continue;
      // Version and lengths change what is covered; that is another test's subject.
      if (ends === V4 && (at === 14 || at === 16 || at === 17)) continue;
      const flipped = frame.slice();
      flipped[at] = (flipped[at] ?? 0) ^ 0x10;
      if (ends === V4 && (at === 20 || at === 21 || at === 23)) {
        // Fragment and protocol bits take the transport sum out of sight, the header's own still tells.
        assert.ok(checksumProblems(flipped).some((problem) => problem.startsWith("ip.")));
      }
      assert.notDeepEqual(checksumProblems(flipped), [], `byte ${at}`);
    }
  }
});

test("buildFrame() writes a partial checksum as the folded pseudo-header sum", () => {
  // Worked by hand: 0a01 + 0203 + 0a01 + 0204 + 0006 + 0014 = 0x1823.
  const frame = buildFrame({
    src: "10.1.2.3",
    dst: "10.1.2.4",
    payload: tcp(1, 2, "S", { checksum: "partial" }),
  });
  assert.equal(fieldText(dissectFrame(frame), "tcp.checksum"), "0x1823");
});

test("onesComplementSum() agrees with the worked example of RFC 1071", () => {
  assert.equal(onesComplementSum(bytes(0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7)), 0xddf2);
});

test("crc32c() agrees with published vectors", () => {
  // The check value of CRC-32C in catalogues of CRCs, and the examples of RFC 3720 appendix B.4.
  assert.equal(crc32c(text("123456789")), 0xe3069283);
  assert.equal(crc32c(new Uint8Array(32)), 0x8a9136aa);
  assert.equal(crc32c(new Uint8Array(32).fill(0xff)), 0x62a8ab43);
  assert.equal(crc32c(Uint8Array.from({ length: 32 }, (_, i) => i)), 0x46dd794e);
  assert.equal(crc32c(bytes()), 0);
});

test("buildFrame() writes SCTP's checksum least significant byte first, as RFC 9260 appendix A has it", () => {
  const frame = buildFrame({ ...V4, payload: sctp(1, 2, "abort", { tag: 3 }) });
  const packet = Buffer.from(frame.subarray(34));
  assert.equal(packet.toString("hex", 0, 8), "0001000200000003");
  assert.equal(packet.toString("hex", 12), "06000004");
  const found = packet.readUInt32LE(8);
  packet.fill(0, 8, 12);
  assert.equal(found, crc32c(packet));
});

test("buildFrame() sends a computed UDP checksum of zero as all ones", () => {
  const at = (data: number) => {
    const payload = udp(40000, 9999, "", { data: bytes(data >> 8, data & 0xff) });
    return buildFrame({ ...V4, payload });
  };
  const sum = Number.parseInt(fieldText(dissectFrame(at(0)), "udp.checksum"), 16);
  // The sum of the rest is ~sum; data that equals `sum` brings the total to all ones.
  assert.equal(fieldText(dissectFrame(at(sum)), "udp.checksum"), "0xffff");
  assert.deepEqual(checksumProblems(at(sum)), []);
});

test("dissectFrame() names the fields of the packet that an ICMP error quotes", () => {
  const inner: Packet = { ...V6, payload: udp(40000, 9999) };
  const frame = buildFrame({ src: V6.dst, dst: V6.src, payload: icmpError("port-unreachable", inner) });
  const dissection = dissectFrame(frame);
  assert.equal(fieldText(dissection, "icmp.inner.ip.dst"), V6.dst);
  assert.equal(fieldText(dissection, "icmp.inner.udp.sport"), "40000");
});

test("dissectFrame() never throws, whatever the bytes", () => {
  for (const [, packet] of SAMPLES) {
    const frame = buildFrame(packet);
    for (let length = 0; length <= frame.length; length++) dissectFrame(frame.subarray(0, length));
    for (let at = 12; at < frame.length; at++) {
      for (const value of [0, 1, 0x45, 0x60, 0xff]) {
        const changed = frame.slice();
        changed[at] = value;
        dissectFrame(changed);
      }
    }
  }
});

test("diffFrames() names the field that differs, and only that", () => {
  const expected = buildFrame({ ...V4, payload: tcp(40000, 6379) });
  const actual = buildFrame({ ...V4, payload: tcp(40000, 6380) });
  const lines = diffFrames(actual, expected).split("\n");
  assert.equal(lines[0], "  tcp.dport: 6380, expected 6379");
  assert.match(lines[1] ?? "", /^ {2}tcp\.checksum: /);
  assert.match(lines[2] ?? "", /first difference at byte 37/);
  assert.equal(diffFrames(actual, actual), "");
});

const tcpdump = spawnSync("tcpdump", ["--version"]).status === 0;

/** What tcpdump -vv says about the frames, one string for each. */
function tcpdumpVerdicts(frames: readonly Uint8Array[]): string[] {
  const directory = mkdtempSync(joinPath(tmpdir(), "ptl-packet-"));
  try {
    const file = joinPath(directory, "frames.pcap");
    writeFileSync(file, pcap(frames));
    const run = spawnSync("tcpdump", ["-nn", "-vv", "-t", "-r", file], { encoding: "utf8" });
    assert.equal(run.status, 0, run.stderr);
    // A packet starts at the left margin; its further lines are indented.
    return run.stdout.trimEnd().split(/\n(?=\S)/);
  } finally {
    rmSync(directory, { recursive: true });
  }
}

function pcap(frames: readonly Uint8Array[]): Uint8Array {
  const header = Buffer.alloc(24);
  header.writeUInt32LE(0xa1b2c3d4, 0);
  header.writeUInt16LE(2, 4);
  header.writeUInt16LE(4, 6);
  header.writeUInt32LE(65535, 16);
  header.writeUInt32LE(1, 20);
  const records = frames.flatMap((frame) => {
    const record = Buffer.alloc(16);
    record.writeUInt32LE(frame.length, 8);
    record.writeUInt32LE(frame.length, 12);
    return [record, Buffer.from(frame)];
  });
  return Buffer.concat([header, ...records]);
}

test("buildFrame() satisfies tcpdump for every sample", { skip: !tcpdump && "tcpdump is missing" }, () => {
  const verdicts = tcpdumpVerdicts(SAMPLES.map(([, packet]) => buildFrame(packet)));
  assert.equal(verdicts.length, SAMPLES.length);
  for (const [index, verdict] of verdicts.entries()) {
    const name = SAMPLES[index]?.[0] ?? "";
    assert.doesNotMatch(verdict, /incorrect|bad |wrong|invalid|malformed|unknown/i, `${name}: ${verdict}`);
    // tcpdump verifies no transport sum behind a fragment header.
    if (/tcp|udp/.test(name) && !name.includes("atomic fragment")) {
      assert.match(verdict, /cksum 0x[0-9a-f]{4} \(correct\)|udp sum ok/, `${name}: ${verdict}`);
    }
  }
});

test("checksumProblems() and tcpdump find the same wrong sums", {
  skip: !tcpdump && "tcpdump is missing",
}, () => {
  const wrong = [V4, V6].flatMap((ends) => [
    buildFrame({ ...ends, payload: tcp(1, 2, "S", { checksum: "partial" }) }),
    buildFrame({ ...ends, payload: udp(1, 2, "x", { checksum: 0x1234 }) }),
  ]);
  wrong.push(buildFrame({ ...V4, payload: tcp(1, 2), lie: { checksum: 0xbeef } }));
  wrong.push(buildFrame({ ...V4, payload: { ...echo(4), checksum: 0xbeef } }));
  for (const [index, verdict] of tcpdumpVerdicts(wrong).entries()) {
    const problems = checksumProblems(wrong[index] ?? bytes());
    assert.equal(problems.length, 1, verdict);
    assert.match(verdict, /incorrect|bad |wrong/, problems.join());
    const expected = /should be 0x([0-9a-f]+)/.exec(problems[0] ?? "")?.[1] ?? "";
    // tcpdump prints what the sum should be without leading zeroes.
    assert.ok(verdict.includes(expected.replace(/^0+/, "")), `${expected} is not in: ${verdict}`);
  }
});
