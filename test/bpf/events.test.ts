// SPDX-License-Identifier: Apache-2.0
/** Events for `portolan monitor`: what is told, to whom, and what it costs the programs when the reader is slow or gone. */
import assert from "node:assert/strict";
import { after } from "node:test";
import { FrontendFlag, NatFlag, NO_BACKEND, NO_SERVICE, Option, Tell, Why } from "../../src/abi/enums.gen.js";
import { buildFrame, icmpError, icmpRedirect, tcp, udp } from "../support/packet.js";
import { EVERYTHING, EventLog, serviceDrops } from "./support/event-log.js";
import { IFINDEX, type Lab, openBench, twins } from "./support/lab.js";
import { serviceNetwork } from "./support/policy.js";
import {
  balancer,
  clientAsks,
  DNS_FLOW,
  dns,
  establish,
  nodePort,
  opening,
  web,
} from "./support/scenario.js";

const bench = await openBench();
const resetting = await openBench({ options: Option.RESET_REMOVED });
const log = new EventLog(bench);
const resets = new EventLog(resetting);
after(() => {
  log.close();
  resets.close();
});

const syn = (lab: Lab, sport = 40000, dport = 80) => lab.packet("client", "vip", tcp(sport, dport, "S"));

for (const protocol of ["tcp", "udp", "sctp"] as const) {
  twins(
    bench,
    `A new ${protocol} flow is told once, with its choice; its packets are told as translated`,
    async (lab) => {
      const service = await web(lab, { protocol });
      await log.listen({});
      const first = lab.packet("client", "vip", opening(protocol, 40000, 80));
      await lab.run("ptl_pod_in", first);
      const [event, ...others] = log.records();
      assert.deepEqual(others, []);
      assert.ok(event);
      const {
        service: index,
        backend,
        generation,
        length,
        ifindex,
        why,
        frontendFlags,
        family,
        cookie,
      } = event;
      assert.deepEqual(
        { index, backend, generation, length, ifindex, why, frontendFlags, family, cookie },
        {
          index: service.index,
          backend: service.cells[0],
          generation: 1,
          length: buildFrame(first).length,
          ifindex: IFINDEX,
          why: Why.INSIDE,
          frontendFlags: FrontendFlag.FRONTEND_CLUSTER_IP,
          family: lab.family,
          cookie: 0n,
        },
      );
      assert.ok(event.time > 0n && event.time <= process.hrtime.bigint(), "the time is CLOCK_MONOTONIC");
      await lab.run("ptl_pod_in", first);
      assert.deepEqual(log.lines(), [
        `translated TRANSLATED in ${protocol} client:40000 > vip:80 => backend:8080`,
      ]);
    },
  );
}

twins(bench, "A reply is told with the address that it is given", async (lab) => {
  await web(lab);
  await log.listen({});
  await establish(lab);
  const events = log.records();
  assert.deepEqual(
    events.map(({ natFlags }) => natFlags & NatFlag.NAT_REPLY),
    [0, NatFlag.NAT_REPLY, 0],
  );
  await establish(lab, { ...DNS_FLOW, clientPort: 40001, port: 80, backendPort: 8080 });
  assert.deepEqual(log.lines(), [
    "new FLOW_NEW in tcp client:40001 > vip:80 => backend:8080",
    "translated TRANSLATED out tcp backend:8080 > client:40001 => vip:80",
    "translated TRANSLATED in tcp client:40001 > vip:80 => backend:8080",
  ]);
});

twins(bench, "Why a backend was chosen is told: affinity bound, affinity kept, from outside", async (lab) => {
  const endpoints = [
    { host: "backend", port: 8080, sets: 2 },
    { host: "backend2", port: 8080, sets: 2 },
  ] as const;
  await balancer(lab, { affinitySeconds: 100, endpoints });
  await log.listen({ kinds: Tell.NEW });
  for (const [client, sport] of [
    ["client", 40000],
    ["client", 40001],
    ["stranger", 40000],
  ] as const)
    await lab.run("ptl_net_in", lab.packet(client, "lb", tcp(sport, 80, "S")));
  const { INSIDE, AFFINITY_BOUND, AFFINITY_KEPT } = Why;
  assert.deepEqual(
    log.records().map(({ why }) => why),
    [INSIDE | AFFINITY_BOUND, INSIDE | AFFINITY_KEPT, AFFINITY_BOUND],
  );
});

twins(bench, "A refused flow is told with its reason, and counted for its Service", async (lab) => {
  const empty = await web(lab, { endpoints: [] });
  const silent = await balancer(lab, { endpoints: [], whenEmpty: "drop" });
  const guarded = await web(lab, {
    vip: "lb2",
    kind: "external",
    flags: FrontendFlag.FRONTEND_SOURCE_RANGES,
  });
  const drops = () => Promise.all([empty, silent, guarded].map(({ index }) => serviceDrops(lab, index)));
  const before = await drops();
  await log.listen({});
  await lab.run("ptl_pod_in", syn(lab));
  await lab.run("ptl_pod_in", lab.packet("client", "vip", udp(40000, 81)));
  await lab.run("ptl_net_in", lab.packet("stranger", "lb", tcp(40000, 80, "S")));
  await lab.run("ptl_net_in", lab.packet("stranger", "lb2", tcp(40000, 80, "S")));
  const records = log.records();
  assert.deepEqual(
    records.map(({ service, backend }) => ({ service, backend })),
    [empty.index, NO_SERVICE, silent.index, guarded.index].map((service) => ({
      service,
      backend: NO_BACKEND,
    })),
  );
  const after = await drops();
  assert.deepEqual(
    after.map((count, i) => count - (before[i] as number)),
    [1, 1, 1],
  );
});

twins(bench, "What is rejected or dropped says so, at either hook", async (lab) => {
  await web(lab, { endpoints: [] });
  await balancer(lab, { endpoints: [], whenEmpty: "drop" });
  await serviceNetwork(lab, lab.family === 4 ? "10.96.0.0/16" : "fd00:96::/108");
  await log.listen({});
  await lab.run("ptl_pod_in", syn(lab));
  await lab.run("ptl_pod_in", syn(lab, 40000, 81));
  await lab.run("ptl_net_in", lab.packet("stranger", "lb", tcp(40000, 80, "S")));
  await lab.run("ptl_pod_in", lab.packet("client", "unused", tcp(40000, 80, "S")));
  await lab.run("ptl_net_out", syn(lab));
  await lab.run("ptl_net_out", lab.packet("client", "unused", tcp(40000, 80, "S")));
  assert.deepEqual(log.lines(), [
    "rejected REJECT_NO_BACKEND in tcp client:40000 > vip:80",
    "rejected REJECT_NO_PORT in tcp client:40000 > vip:81",
    "dropped DROP_POLICY in tcp stranger:40000 > lb:80",
    "dropped DROP_UNALLOCATED in tcp client:40000 > unused:80",
    "rejected REJECT_UNTRANSLATED out tcp client:40000 > vip:80",
    "dropped DROP_UNALLOCATED out tcp client:40000 > unused:80",
  ]);
});

twins(bench, "A masqueraded flow that finds no address is told as dropped at egress", async (lab) => {
  await nodePort(lab, { flags: FrontendFlag.FRONTEND_MASQUERADE_OUTSIDERS });
  await lab.interface({ masquerade: false });
  await log.listen({});
  const first = await lab.run("ptl_net_in", lab.packet("stranger", "nodeip", tcp(40000, 30080, "S")));
  await lab.run("ptl_pod_out", first.frame);
  assert.deepEqual(log.lines(), [
    "new FLOW_NEW in tcp stranger:40000 > nodeip:30080 => backend:8080",
    "dropped DROP_NO_ADDRESS out tcp stranger:40000 > backend:8080 => stranger:40000",
  ]);
});

twins(bench, "An ICMP error about a flow is told; a redirect about one is told as dropped", async (lab) => {
  await web(lab);
  await establish(lab);
  await log.listen({});
  const inner = lab.packet("client", "backend", tcp(40000, 8080, "A"));
  await lab.run("ptl_pod_out", lab.packet("backend", "client", icmpError("port-unreachable", inner)));
  await lab.run("ptl_pod_out", lab.packet("router", "client", icmpRedirect(lab.at.backend, inner)));
  assert.deepEqual(log.lines(), [
    "translated ICMP_TRANSLATED out icmp backend:0 > client:0 => vip:80",
    "dropped DROP_REDIRECT out icmp router:0 > client:0 => vip:80",
  ]);
});

twins(
  bench,
  "A UDP flow whose backend has gone is told with that backend, and then as a new one",
  async (lab) => {
    const service = await dns(lab);
    await clientAsks(lab, DNS_FLOW, true);
    await lab.publish(service, [{ host: "backend2", port: 5353 }]);
    await log.listen({});
    await lab.run("ptl_pod_in", lab.packet("client", "vip", udp(40000, 53)));
    assert.deepEqual(log.lines(), [
      "gone BACKEND_STALE in udp client:40000 > vip:53 => backend:5353",
      "new FLOW_NEW in udp client:40000 > vip:53 => backend2:5353",
    ]);
  },
);

twins(resetting, "A connection that is reset because its backend has left is told", async (lab) => {
  const service = await web(lab);
  await establish(lab);
  await lab.retire(service.cells[0] as number, service.index, { host: "backend", port: 8080 });
  await resets.listen({});
  await lab.run("ptl_pod_in", lab.packet("client", "vip", tcp(40000, 80, "A")));
  assert.deepEqual(resets.lines(), ["gone RESET_REMOVED in tcp client:40000 > vip:80 => backend:8080"]);
});

twins(bench, "Only the kinds that are listened for are told", async (lab) => {
  await web(lab);
  await log.listen({ kinds: Tell.REJECTED | Tell.DROPPED });
  await establish(lab);
  await lab.run("ptl_pod_in", syn(lab, 40000, 81));
  assert.deepEqual(log.lines(), ["rejected REJECT_NO_PORT in tcp client:40000 > vip:81"]);
});

twins(bench, "Nobody listens: nothing is written", async (lab) => {
  await web(lab);
  await log.listen({ kinds: 0 });
  await establish(lab);
  await lab.run("ptl_pod_in", syn(lab, 40000, 81));
  assert.deepEqual(log.lines(), []);
});

twins(
  bench,
  "A listener that has not said again that it listens is switched off by the next event",
  async (lab) => {
    await web(lab);
    await log.listen({ seconds: -1 });
    assert.equal(await log.kinds(), EVERYTHING);
    await establish(lab);
    assert.deepEqual(log.lines(), []);
    assert.equal(await log.kinds(), 0);
  },
);

twins(bench, "Of translated packets one in N is told, of everything else all", async (lab) => {
  const datagrams = 1500;
  await dns(lab);
  await clientAsks(lab, DNS_FLOW, true);
  await log.listen({ sample: 100 });
  const frame = buildFrame(lab.packet("client", "vip", udp(40000, 53)));
  let told = 0;
  for (let i = 0; i < datagrams; i++) {
    lab.kernel.testRun("ptl_pod_in", { data: frame, ifindex: IFINDEX });
    if (i % 30 === 0) told += log.records().length;
  }
  told += log.records().length;
  // 15 are expected; the odds of none or of more than 60 are below one in three million.
  assert.ok(told > 0 && told < 60, `${told} of ${datagrams} were told`);
  await log.listen({ sample: 1_000_000_000 });
  for (let i = 0; i < 10; i++) await lab.run("ptl_pod_in", syn(lab, 41000 + i, 81));
  assert.equal(log.records().length, 10);
});

twins(bench, "A ring that is full loses events, counts them, and the packets go on", async (lab) => {
  await balancer(lab, { endpoints: [], whenEmpty: "drop" });
  await log.listen({});
  const lost = await log.lost();
  const repeat = 500;
  const frame = buildFrame(lab.packet("stranger", "lb", tcp(40000, 80, "S")));
  const { retval } = lab.kernel.testRun("ptl_net_in", { data: frame, ifindex: IFINDEX, repeat });
  assert.equal(retval, 2, "dropped");
  const told = log.records().length;
  assert.ok(told > 0 && told < repeat);
  assert.equal(told + (await log.lost()) - lost, repeat);
  lab.kernel.testRun("ptl_net_in", { data: frame, ifindex: IFINDEX });
  assert.equal(log.records().length, 1, "there is room again");
});
