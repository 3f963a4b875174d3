// SPDX-License-Identifier: Apache-2.0
/**
 * Whole flows through random Services: kinds of frontends, words, flags, affinity, ranges, states and sets of backends, all
 * at random, under each detector and with maps that change in between. Whatever a flow is given, its replies come back
 * from the address and port that the client asked, to the port that asked, and every sum is right.
 * PORTOLAN_FUZZ_SEED repeats a run, PORTOLAN_FUZZ_SECONDS makes it longer.
 */
import assert from "node:assert/strict";
import test from "node:test";
import { AddressClass, Detector, FrontendFlag, Option } from "../../src/abi/enums.gen.js";
import { undisturbed } from "../support/awake.js";
import { buildFrame, type Packet } from "../support/packet.js";
import { assertSameFrame } from "../support/packet-diff.js";
import { dissectFrame, fieldText } from "../support/packet-dissect.js";
import type { Family, Host } from "./support/addresses.js";
import { judge } from "./support/judge.js";
import {
  type Bench,
  type Endpoint,
  type FrontendKind,
  Lab,
  type Outcome,
  openBench,
  type ProtocolName,
  type ReasonName,
  type Service,
} from "./support/lab.js";
import { allowSource, only, remember, serviceNetwork } from "./support/policy.js";
import { random } from "./support/random.js";
import { answer, further, opening } from "./support/scenario.js";

const SEED = Number(process.env.PORTOLAN_FUZZ_SEED ?? Date.now() % 0x7fffffff);
/** However slow the machine: enough to meet every reason, which the last test asks for. */
const LEAST_WORLDS = 16;
const FLOWS = 25;
const SECONDS = Number(process.env.PORTOLAN_FUZZ_SECONDS ?? 4);
const MARK = 0x2000;
const OTHERS = 0x4f0f;

const common = { options: Option.RESET_REMOVED, mark: MARK };
const BENCHES: readonly (readonly [string, Bench])[] = [
  ["a network", await openBench(common)],
  [
    "interfaces",
    await openBench({
      ...common,
      detector4: Detector.DETECT_INTERFACE,
      detector6: Detector.DETECT_INTERFACE,
    }),
  ],
  [
    "nobody",
    await openBench({ ...common, detector4: Detector.DETECT_NONE, detector6: Detector.DETECT_NONE }),
  ],
];

const CLIENTS = ["client", "client2", "stranger", "stranger2", "backend", "backend2"] as const;
const BACKENDS = ["backend", "backend2", "backend3", "backend4"] as const;
const PROTOCOLS = ["tcp", "udp", "sctp"] as const;
const FRONTENDS: readonly (readonly [Host, FrontendKind, number])[] = [
  ["vip", "cluster-ip", 80],
  ["vip2", "cluster-ip", 80],
  ["lb", "external", 80],
  ["lb2", "external", 80],
  ["nodeip", "node-port", 30080],
  ["nodeip", "external", 80],
];

type Pick = (n: number) => number;
const oneOf = <T>(pick: Pick, values: readonly T[]): T => values[pick(values.length)] as T;
/** Each bit of `bits` or not. */
const someOf = (pick: Pick, bits: readonly number[]): number =>
  bits.reduce((sum, bit) => sum | (pick(2) ? bit : 0), 0);

/** A backend as the test has left it. */
interface Cell {
  readonly cell: number;
  readonly service: number;
  readonly endpoint: Endpoint;
  generation: number;
}

interface World {
  readonly services: Service[];
  readonly cells: Cell[];
}

function endpoints(pick: Pick): Endpoint[] {
  return BACKENDS.filter(() => pick(3) > 0).map((host) => ({ host, port: 8080, sets: pick(8) }));
}

/** Random Services on every address. */
async function createWorld(lab: Lab, pick: Pick): Promise<World> {
  await lab.reset();
  await lab.addClass("nodeip", AddressClass.CLASS_NODE);
  await serviceNetwork(lab, lab.family === 4 ? "10.96.0.0/16" : "fd00:96::/108");
  const world: World = { services: [], cells: [] };
  for (const [vip, kind, port] of FRONTENDS) {
    for (const protocol of PROTOCOLS) {
      if (pick(6) === 0) continue;
      const service = await lab.service({
        ...{ vip, kind, port, protocol },
        endpoints: endpoints(pick),
        ...(pick(2) ? { outside: endpoints(pick) } : {}),
        whenEmpty: oneOf(pick, ["reject", "drop"]),
        affinitySeconds: oneOf(pick, [0, 0, 1, 100, 86400]),
        flags:
          someOf(pick, [
            FrontendFlag.FRONTEND_MASQUERADE,
            FrontendFlag.FRONTEND_MASQUERADE_OUTSIDERS,
            FrontendFlag.FRONTEND_INTERNAL_LOCAL,
            FrontendFlag.FRONTEND_EXTERNAL_LOCAL,
          ]) | (kind === "external" && pick(3) === 0 ? FrontendFlag.FRONTEND_SOURCE_RANGES : 0),
      });
      world.services.push(service);
      for (const client of CLIENTS) if (pick(3) > 0) await allowSource(lab, service, only(lab, client));
      for (const offer of new Set([service.inside, service.outside])) {
        for (const [i, endpoint] of offer.endpoints.entries())
          world.cells.push({
            cell: offer.cells[i] as number,
            service: service.index,
            endpoint,
            generation: 1,
          });
      }
    }
  }
  return world;
}

/** Something changes, as it would under an agent: backends come and go, time passes, interfaces are described. */
async function perturb(lab: Lab, world: World, pick: Pick): Promise<void> {
  const backend = oneOf(pick, world.cells);
  const service = oneOf(pick, world.services);
  switch (pick(7)) {
    case 0:
      backend.generation++;
      await lab.retire(backend.cell, backend.service, backend.endpoint, backend.generation);
      break;
    case 1:
      await lab.drain(backend.cell, backend.service, backend.endpoint, backend.generation);
      break;
    case 2:
    case 3:
      await lab.setBackend(
        backend.cell,
        backend.service,
        { ...backend.endpoint, sets: pick(8) },
        backend.generation,
      );
      break;
    case 4:
      await lab.age(pick(2) ? 40 : 400);
      break;
    case 5: {
      const cell = pick(3) ? oneOf(pick, world.cells).cell : pick(0xffffffff);
      const age = BigInt(pick(200)) * 1_000_000_000n;
      await remember(lab, oneOf(pick, CLIENTS), service, { cell, generation: 1 + pick(2), age });
      break;
    }
    default:
      await lab.interface({
        masquerade: oneOf(pick, ["node", "nodeip", "router", false]),
        localPods: pick(2) === 1,
      });
  }
}

/** One packet, judged; its mark too. */
async function step(
  lab: Lab,
  program: "ptl_pod_in" | "ptl_net_in" | "ptl_pod_out" | "ptl_net_out",
  packet: Packet | Uint8Array,
  tally: Map<string, number>,
  what: string,
): Promise<Outcome> {
  const frame = packet instanceof Uint8Array ? packet : buildFrame(packet);
  const outcome = await lab.run(program, frame, { mark: OTHERS });
  judge(frame, outcome, `${what}, ${program}`);
  const names = Object.keys(outcome.reasons) as ReasonName[];
  for (const name of names) tally.set(name, (tally.get(name) ?? 0) + 1);
  const ours = names.includes("FLOW_NEW") || names.includes("TRANSLATED");
  const marks = program.endsWith("_in") && ours && outcome.verdict === "pass";
  assert.equal(outcome.mark, marks ? OTHERS | MARK : OTHERS, `${what}: mark (${names.join(", ")})`);
  return outcome;
}

/** A flow from its first packet to its second, there and back; and sometimes to the end of its backend. */
async function converse(
  lab: Lab,
  world: World,
  pick: Pick,
  tally: Map<string, number>,
  what: string,
): Promise<void> {
  const protocol: ProtocolName = oneOf(pick, PROTOCOLS);
  const client = oneOf(pick, CLIENTS);
  const [vip, , port] = pick(12) ? oneOf(pick, FRONTENDS) : (["unused", "external", 80] as const);
  const dport = pick(12) ? port : 81;
  const sport = 40000 + pick(6);
  const text = `${what}: ${protocol} ${client}:${sport} > ${vip}:${dport}`;
  const ends = (outcome: Outcome) => {
    const fields = dissectFrame(outcome.frame);
    const field = (name: string) => fieldText(fields, name);
    return {
      src: field("ip.src"),
      dst: field("ip.dst"),
      sport: Number(field(`${protocol}.sport`)),
      dport: Number(field(`${protocol}.dport`)),
    };
  };
  const ask = lab.packet(client, vip, opening(protocol, sport, dport));
  const entered = await step(lab, oneOf(pick, ["ptl_pod_in", "ptl_net_in"]), ask, tally, text);
  if (entered.verdict !== "pass" || !(entered.reasons.FLOW_NEW || entered.reasons.TRANSLATED)) {
    await step(lab, "ptl_net_out", ask, tally, text);
    return;
  }
  const left = await step(lab, "ptl_pod_out", entered.frame, tally, text);
  if (left.verdict !== "pass") return;
  const there = ends(left);
  assert.ok(
    BACKENDS.some((host) => lab.at[host] === there.dst),
    `${text}: went to ${there.dst}`,
  );
  assert.notEqual(there.src, there.dst, `${text}: a pod would answer itself`);
  // the backend's answer
  const reply = { src: there.dst, dst: there.src, payload: answer(protocol, there.dport, there.sport) };
  const back = await step(lab, "ptl_pod_in", reply, tally, `${text}, reply`);
  const home = await step(lab, "ptl_net_out", back.frame, tally, `${text}, reply`);
  const expected = lab.packet(vip, client, answer(protocol, dport, sport));
  assertSameFrame(home.frame, buildFrame(expected), `${text}: the reply as the client sees it`);
  // and the client goes on
  const next = await step(
    lab,
    "ptl_net_in",
    lab.packet(client, vip, further(protocol, sport, dport)),
    tally,
    text,
  );
  if (next.verdict !== "pass") return;
  const second = await step(lab, "ptl_pod_out", next.frame, tally, text);
  assert.deepEqual(ends(second), there, `${text}: the second packet goes the way of the first`);
  if (pick(6)) return;
  for (const backend of world.cells) {
    if (lab.at[backend.endpoint.host] !== there.dst) continue;
    backend.generation++;
    await lab.retire(backend.cell, backend.service, backend.endpoint, backend.generation);
  }
  const last = lab.packet(client, vip, further(protocol, sport, dport));
  const { reasons } = await step(lab, "ptl_net_in", last, tally, `${text}, whose backend has gone`);
  const gone = { tcp: "RESET_REMOVED", udp: "BACKEND_STALE", sctp: "TRANSLATED" } as const;
  assert.equal(reasons[gone[protocol]], 1, `${text}: ${JSON.stringify(reasons)}`);
  // another pod takes the address: the same cell, one generation later
  for (const { cell, service, endpoint, generation } of world.cells)
    if (lab.at[endpoint.host] === there.dst) await lab.setBackend(cell, service, endpoint, generation);
}

const reached = new Map<string, number>();

for (const [name, bench] of BENCHES) {
  for (const family of [4, 6] as const satisfies readonly Family[]) {
    test(`Flows through random Services come back, with ${name} detected, seed ${SEED} (IPv${family})`, async (context) => {
      const lab = new Lab(bench, family);
      const pick = random(SEED + family + name.length);
      const end = Date.now() + (SECONDS * 1000) / 2;
      let flows = 0;
      for (let round = 0; round < LEAST_WORLDS || Date.now() < end; round++) {
        // Flows and clients are forgotten while the machine stands still, too: then, the same world once more.
        const worldSeed = pick(2 ** 31);
        await undisturbed(context, async () => {
          const choose = random(worldSeed);
          const world = await createWorld(lab, choose);
          for (let i = 0; i < FLOWS; i++, flows++) {
            await converse(lab, world, choose, reached, `seed ${SEED}, world ${round}, flow ${i}`);
            if (choose(3) === 0) await perturb(lab, world, choose);
          }
        });
      }
      context.diagnostic(`${flows} flows`);
    });
  }
}

test("Flows through random Services meet every reason of theirs", (context) => {
  context.diagnostic([...reached].map(([name, n]) => `${name} ${n}`).join(", "));
  // A fuzzer that reaches nothing proves nothing.
  for (const name of [
    "FLOW_NEW",
    "TRANSLATED",
    "MASQUERADED",
    "SOURCE_PORT_SHIFTED",
    "AFFINITY_KEPT",
    "BACKEND_STALE",
    "RESET_REMOVED",
    "REJECT_NO_BACKEND",
    "REJECT_NO_PORT",
    "REJECT_UNTRANSLATED",
    "DROP_POLICY",
    "DROP_SOURCE_RANGE",
    "DROP_UNALLOCATED",
    "DROP_NO_ADDRESS",
  ] as const satisfies readonly ReasonName[])
    assert.ok((reached.get(name) ?? 0) > 0, `no packet was ${name}`);
});
