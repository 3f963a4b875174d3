// SPDX-License-Identifier: Apache-2.0
/**
 * Packets that nobody would send: valid ones with bytes changed, cut off, put in, or run together. The programs always
 * return a verdict of ours, leave alone what they pass as not ours, and what they translate has right sums if it came
 * with right ones. PORTOLAN_FUZZ_SEED repeats a run, PORTOLAN_FUZZ_SECONDS makes it longer.
 */
import assert from "node:assert/strict";
import test from "node:test";
import { BackendFlag, FrontendFlag, Option } from "../../src/abi/enums.gen.js";
import {
  buildFrame,
  echo,
  ICMP_ERROR_NAMES,
  icmpError,
  icmpRedirect,
  type Packet,
  sctp,
  tcp,
  text,
  udp,
} from "../support/packet.js";
import type { Host } from "./support/addresses.js";
import { pieces } from "./support/fragments.js";
import { judge } from "./support/judge.js";
import { Lab, openBench } from "./support/lab.js";
import { allowSource, only, serviceNetwork } from "./support/policy.js";
import { random } from "./support/random.js";
import { balancer, dns, nodePort, web } from "./support/scenario.js";

const bench = await openBench({ options: Option.RESET_REMOVED, mark: 0x2000 });
const PROGRAMS = ["ptl_pod_in", "ptl_pod_out", "ptl_net_in", "ptl_net_out"] as const;
const SEED = Number(process.env.PORTOLAN_FUZZ_SEED ?? Date.now() % 0x7fffffff);
const SECONDS = Number(process.env.PORTOLAN_FUZZ_SECONDS ?? 4);

/** Who sends to whom: flows of ours in every form that they have on their way, and a stranger's. */
const PAIRS: readonly (readonly [Host, Host])[] = [
  ["client", "vip"],
  ["client", "backend"],
  ["backend", "client"],
  ["client", "vip2"],
  ["backend", "vip"],
  ["stranger", "vip"],
  ["client", "stranger"],
  ["stranger2", "nodeip"],
  ["stranger2", "backend"],
  ["stranger", "lb"],
  ["stranger2", "lb2"],
  ["client", "unused"],
  ["backend", "node"],
];

/** Valid packets of every kind. */
function corpus(lab: Lab): Uint8Array[] {
  const payloads: Packet["payload"][] = [
    tcp(40000, 80, "S", { options: Uint8Array.of(2, 4, 5, 180) }),
    tcp(40000, 80, "PA", { data: text("some data") }),
    tcp(8080, 40000, "SA"),
    tcp(40000, 8080, "S"),
    tcp(40000, 30080, "S"),
    tcp(40001, 30080, "S"),
    udp(40000, 30080),
    sctp(40000, 30080, "init"),
    udp(40000, 53),
    udp(5353, 40000),
    udp(40000, 53, "", { checksum: "zero" }),
    sctp(40000, 80, "init"),
    sctp(40000, 80, "data"),
    sctp(8080, 40000, "initAck"),
    sctp(8080, 40000, "abort"),
  ];
  const options: Partial<Packet> = {
    options: Uint8Array.of(148, 4, 0, 0),
    extensions: [{ kind: "hop-by-hop" }, { kind: "fragment", offset: 0, more: false }],
  };
  const out: Uint8Array[] = [];
  for (const [src, dst] of PAIRS) {
    for (const payload of payloads) {
      const inner = lab.packet(dst, src, payload);
      const name = ICMP_ERROR_NAMES[out.length % ICMP_ERROR_NAMES.length] ?? "too-big";
      out.push(
        buildFrame(lab.packet(src, dst, payload)),
        buildFrame(lab.packet(src, dst, payload, options)),
        buildFrame(lab.packet(src, dst, icmpError(name, inner))),
      );
    }
    const redirected = lab.packet(dst, src, tcp(80, 40000, "A"));
    out.push(buildFrame(lab.packet("router", src, icmpRedirect(lab.at[dst], redirected))));
    out.push(buildFrame(lab.packet(src, dst, echo(lab.family))));
    const long = pieces(lab, src, dst, udp(40000, 53, "x".repeat(900)), { id: out.length });
    out.push(...long.map((piece) => buildFrame(piece)));
    out.push(
      buildFrame(lab.packet(src, dst, udp(1, 2), { truncate: 14 + (lab.family === 4 ? 20 : 40) + 4 })),
    );
  }
  return out;
}

function mutate(frame: Uint8Array, others: readonly Uint8Array[], pick: (n: number) => number): Uint8Array {
  let out = frame.slice();
  for (let rounds = pick(4); rounds >= 0; rounds--) {
    const at = pick(out.length);
    switch (pick(8)) {
      case 0: // one bit
        out[at] = (out[at] ?? 0) ^ (1 << pick(8));
        break;
      case 1: // a byte that tends to mean something
        out[at] = [0, 1, 4, 5, 6, 17, 44, 58, 60, 0x45, 0x4f, 0x60, 0x7f, 0x80, 0xff][pick(15)] ?? 0;
        break;
      case 2: // any byte behind the link layer
        if (out.length > 14) out[14 + pick(out.length - 14)] = pick(256);
        break;
      case 3: // cut
        out = out.slice(0, Math.max(14, at));
        break;
      case 4: // longer
        out = Uint8Array.from([...out, ...Array.from({ length: 1 + pick(40) }, () => pick(256))]);
        break;
      case 5: {
        // the tail of another packet
        const other = others[pick(others.length)] ?? frame;
        out = Uint8Array.from([...out.subarray(0, at), ...other.subarray(Math.min(at, other.length))]);
        break;
      }
      case 6: // bytes moved
        out.copyWithin(at, pick(out.length), out.length);
        break;
      default: // unchanged
        break;
    }
  }
  return out.length < 14 ? frame.slice() : out;
}

/** Frontends beyond ClusterIPs: masqueraded, with affinity, with source ranges. */
async function external(lab: Lab): Promise<void> {
  const { FRONTEND_MASQUERADE: flags, FRONTEND_SOURCE_RANGES: ranges } = FrontendFlag;
  for (const protocol of ["tcp", "udp", "sctp"] as const) {
    const endpoints = [{ host: "backend", port: 8080, sets: BackendFlag.BACKEND_CLUSTER_SET }] as const;
    await nodePort(lab, { protocol, flags, affinitySeconds: 100, endpoints });
    const service = await balancer(lab, { protocol, flags: flags | ranges });
    await allowSource(lab, service, only(lab, "stranger"));
    await balancer(lab, { vip: "lb2", protocol, flags: ranges });
  }
  await serviceNetwork(lab, lab.family === 4 ? "10.96.0.0/16" : "fd00:96::/108");
}

for (const family of [4, 6] as const) {
  test(`The programs stay sane on mutated packets, seed ${SEED} (IPv${family})`, async (context) => {
    const lab = new Lab(bench, family);
    await lab.reset();
    await web(lab);
    await dns(lab);
    await web(lab, { protocol: "sctp" });
    await web(lab, { vip: "vip2", endpoints: [] });
    await external(lab);
    const frames = corpus(lab);
    const pick = random(SEED + family);
    let end = 0;
    const verdicts = new Map<string, number>();
    let runs = 0;
    // Every packet as it is first, which starts the flows and reaches every kind of answer; then mutants.
    const plain = frames.flatMap((frame) => PROGRAMS.map((program) => ({ program, frame })));
    for (; runs < plain.length || Date.now() < end; runs++) {
      if (runs === plain.length - 1) end = Date.now() + (SECONDS * 1000) / 2;
      const { program, frame } = plain[runs] ?? {
        program: PROGRAMS[pick(PROGRAMS.length)] ?? "ptl_pod_in",
        frame: mutate(frames[pick(frames.length)] ?? new Uint8Array(64), frames, pick),
      };
      const what = `seed ${SEED}, run ${runs}, ${program}, ${Buffer.from(frame).toString("hex")}`;
      const outcome = await lab.tryRun(program, frame);
      if (outcome === null) continue;
      judge(frame, outcome, what);
      for (const name of Object.keys(outcome.reasons)) verdicts.set(name, (verdicts.get(name) ?? 0) + 1);
    }
    context.diagnostic(`${runs} packets: ${[...verdicts].map(([name, n]) => `${name} ${n}`).join(", ")}`);
    // A fuzzer that reaches nothing proves nothing.
    for (const name of [
      "TRANSLATED",
      "FLOW_NEW",
      "ICMP_TRANSLATED",
      "REJECT_NO_BACKEND",
      "PASS_MALFORMED",
      "MASQUERADED",
      "AFFINITY_KEPT",
      "DROP_SOURCE_RANGE",
      "DROP_UNALLOCATED",
      "REJECT_UNTRANSLATED",
    ] as const) {
      assert.ok(
        (verdicts.get(name) ?? 0) > 0,
        `${runs} packets and none was ${name}: ${JSON.stringify([...verdicts])}`,
      );
    }
  });
}
