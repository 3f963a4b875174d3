// SPDX-License-Identifier: Apache-2.0
/** Session affinity ClientIP (section 5): which backend a client's new flows get, for how long, and when not. */
import assert from "node:assert/strict";
import { AddressClass, BackendFlag, FrontendFlag } from "../../src/abi/enums.gen.js";
import { dissectFrame, fieldText } from "../support/packet-dissect.js";
import type { Host } from "./support/addresses.js";
import {
  type Endpoint,
  type Lab,
  openBench,
  type ProtocolName,
  type Service,
  type ServiceSpec,
  twins,
} from "./support/lab.js";
import { remember, remembered } from "./support/policy.js";
import { opening, web } from "./support/scenario.js";

const bench = await openBench();

const { BACKEND_CLUSTER_SET: CLUSTER, BACKEND_LOCAL_SET: LOCAL } = BackendFlag;
const HOSTS = ["backend", "backend2", "backend3", "backend4"] as const;
const SECOND = 1_000_000_000n;
const TIMEOUT = 100;

const endpointsIn = (sets: number, hosts: readonly Host[] = HOSTS): Endpoint[] =>
  hosts.map((host) => ({ host, port: 8080, sets }));

/** vip:80 on four backends, with affinity. */
const sticky = (lab: Lab, more: Partial<ServiceSpec> = {}): Promise<Service> =>
  web(lab, { endpoints: endpointsIn(CLUSTER), affinitySeconds: TIMEOUT, ...more });

let nextPort = 10000;

interface Choice {
  readonly host: Host;
  readonly kept: boolean;
}

/** A new flow from a client's next port: which backend it gets, and whether affinity chose that. */
async function opens(
  lab: Lab,
  client: Host = "client",
  { at = "vip", port = 80, protocol = "tcp" }: { at?: Host; port?: number; protocol?: ProtocolName } = {},
): Promise<Choice> {
  const sport = nextPort++;
  const outcome = await lab.run("ptl_net_in", lab.packet(client, at, opening(protocol, sport, port)));
  const { AFFINITY_KEPT = 0, ...rest } = outcome.reasons;
  assert.deepEqual(rest, { FLOW_NEW: 1 });
  assert.equal(outcome.verdict, "pass");
  const dst = fieldText(dissectFrame(outcome.frame), "ip.dst");
  const host = HOSTS.find((name) => lab.at[name] === dst);
  assert.ok(host !== undefined, `sent to ${dst}`);
  lab.assertFrame(outcome, lab.packet(client, host, opening(protocol, sport, 8080)));
  return { host, kept: AFFINITY_KEPT === 1 };
}

/** The next flows all go to one backend, and all but perhaps the first by affinity. */
async function keeps(
  lab: Lab,
  client: Host,
  expected: Host,
  where: Parameters<typeof opens>[2] = {},
  flows = 12,
): Promise<void> {
  for (let i = 0; i < flows; i++)
    assert.deepEqual(await opens(lab, client, where), { host: expected, kept: true });
}

const cellOf = (service: Service, host: Host): number => {
  const i = service.inside.endpoints.findIndex((endpoint) => endpoint.host === host);
  return service.inside.cells[i] as number;
};

/** Another state or set for one backend, in place, as the reconciler does. */
async function setSets(lab: Lab, service: Service, host: Host, sets: number): Promise<void> {
  await lab.setBackend(cellOf(service, host), service.index, { host, port: 8080, sets });
}

for (const protocol of ["tcp", "udp", "sctp"] as const) {
  twins(
    bench,
    `All new ${protocol} flows of a client go to one backend, whatever their ports (5.1, 5.9)`,
    async (lab) => {
      const service = await sticky(lab, { protocol });
      const first = await opens(lab, "client", { protocol });
      assert.equal(first.kept, false);
      await keeps(lab, "client", first.host, { protocol });
      const [entry, ...others] = await remembered(lab);
      assert.deepEqual(others, []);
      assert.equal(entry?.[0], `client ${service.index}`);
      assert.equal(entry?.[1].cell, cellOf(service, first.host));
    },
  );
}

twins(
  bench,
  "Without affinity a client's flows are spread, and nothing is remembered (4.14, 5.10)",
  async (lab) => {
    await sticky(lab, { affinitySeconds: 0 });
    const seen = new Set<Host>();
    for (let i = 0; i < 60; i++) {
      const { host, kept } = await opens(lab);
      assert.equal(kept, false);
      seen.add(host);
    }
    assert.equal(seen.size, 4);
    assert.equal((await remembered(lab)).size, 0);
  },
);

twins(bench, "Each client has a backend of its own (5.1)", async (lab) => {
  const service = await sticky(lab);
  for (const [client, host] of [
    ["client", "backend2"],
    ["client2", "backend3"],
    ["stranger", "backend4"],
  ] as const)
    await remember(lab, client, service, { cell: cellOf(service, host) });
  await keeps(lab, "client", "backend2", {}, 4);
  await keeps(lab, "client2", "backend3", {}, 4);
  await keeps(lab, "stranger", "backend4", {}, 4);
});

twins(bench, "All addresses of a Service port share a client's backend (5.1)", async (lab) => {
  const service = await sticky(lab);
  const more = { protocol: "tcp", affinitySeconds: TIMEOUT } as const;
  await lab.frontend(service, { ...more, vip: "lb", kind: "external", port: 8000 });
  await lab.frontend(service, { ...more, vip: "nodeip", kind: "node-port", port: 30080 });
  await lab.addClass("nodeip", AddressClass.CLASS_NODE);
  const { host } = await opens(lab, "stranger", { at: "lb", port: 8000 });
  await keeps(lab, "stranger", host, { at: "vip", port: 80 }, 6);
  await keeps(lab, "stranger", host, { at: "nodeip", port: 30080 }, 6);
  await keeps(lab, "stranger", host, { at: "lb", port: 8000 }, 6);
  assert.equal((await remembered(lab)).size, 1);
});

twins(bench, "Two ports of a Service remember apart (5.2)", async (lab) => {
  const http = await sticky(lab);
  const https = await sticky(lab, { port: 443 });
  await remember(lab, "client", http, { cell: cellOf(http, "backend") });
  await remember(lab, "client", https, { cell: cellOf(https, "backend3") });
  await keeps(lab, "client", "backend", { port: 80 }, 6);
  await keeps(lab, "client", "backend3", { port: 443 }, 6);
});

twins(
  bench,
  "A backend of another Service port is never taken over, should an entry name it (5.2)",
  async (lab) => {
    const http = await sticky(lab, { endpoints: endpointsIn(CLUSTER, ["backend"]) });
    const other = await sticky(lab, { vip: "vip2", endpoints: endpointsIn(CLUSTER, ["backend2"]) });
    await remember(lab, "client", http, { cell: cellOf(other, "backend2") });
    assert.deepEqual(await opens(lab), { host: "backend", kept: false });
    await keeps(lab, "client", "backend", {}, 3);
  },
);

for (const [what, gone] of [
  [
    "has left the Service",
    (lab: Lab, service: Service) =>
      lab.retire(cellOf(service, "backend2"), service.index, { host: "unspecified", port: 0 }),
  ],
  [
    "no longer serves",
    (lab: Lab, service: Service) =>
      lab.drain(cellOf(service, "backend2"), service.index, { host: "backend2", port: 8080, sets: CLUSTER }),
  ],
  [
    "has left the set (it terminates while others are ready, 5.6)",
    (lab: Lab, service: Service) => setSets(lab, service, "backend2", 0),
  ],
  ["is in the Local set alone", (lab: Lab, service: Service) => setSets(lab, service, "backend2", LOCAL)],
  [
    "has come back as another generation",
    (lab: Lab, service: Service) =>
      lab.setBackend(
        cellOf(service, "backend2"),
        service.index,
        { host: "backend2", port: 8080, sets: CLUSTER },
        2,
      ),
  ],
] as const) {
  twins(
    bench,
    `A remembered backend that ${what} is replaced, and the new one remembered (5.3)`,
    async (lab) => {
      const service = await sticky(lab);
      await remember(lab, "client", service, { cell: cellOf(service, "backend2") });
      await keeps(lab, "client", "backend2", {}, 2);
      await gone(lab, service);
      // the choice that has it no longer; a cell's own change goes before it
      const rest = service.inside.endpoints.filter(({ host }) => host !== "backend2");
      const now = await lab.publish({ ...service, cells: [] }, rest);
      const next = await opens(lab);
      assert.equal(next.kept, false);
      assert.notEqual(next.host, "backend2");
      await keeps(lab, "client", next.host, {}, 6);
      assert.equal((await remembered(lab)).get(`client ${service.index}`)?.cell, cellOf(now, next.host));
    },
  );
}

twins(bench, "A remembered backend stays when others of the Service come and go (5.3)", async (lab) => {
  const service = await sticky(lab);
  await remember(lab, "client", service, { cell: cellOf(service, "backend2") });
  await lab.retire(cellOf(service, "backend"), service.index, { host: "unspecified", port: 0 });
  await lab.publish({ ...service, cells: [] }, endpointsIn(CLUSTER, ["backend3"]));
  await keeps(lab, "client", "backend2", {}, 4);
});

/** One Service port: vip offers the Cluster set, lb offers senders outside the Local set. */
async function localPolicy(lab: Lab): Promise<Service> {
  const service = await sticky(lab, {
    endpoints: [
      ...endpointsIn(CLUSTER, ["backend", "backend2"]),
      ...endpointsIn(CLUSTER | LOCAL, ["backend3"]),
    ],
    outside: endpointsIn(CLUSTER | LOCAL, ["backend4"]),
    flags: FrontendFlag.FRONTEND_EXTERNAL_LOCAL,
    kind: "external",
    vip: "lb",
  });
  await lab.frontend(
    { ...service, outside: service.inside },
    { vip: "vip", port: 80, protocol: "tcp", affinitySeconds: TIMEOUT },
  );
  return service;
}

twins(bench, "A backend of both sets is shared by the Cluster and the Local set (5.4)", async (lab) => {
  const service = await localPolicy(lab);
  await remember(lab, "stranger", service, { cell: cellOf(service, "backend3") });
  await keeps(lab, "stranger", "backend3", { at: "vip" }, 4);
  await keeps(lab, "stranger", "backend3", { at: "lb" }, 4);
});

twins(
  bench,
  "A backend of the Cluster set alone is chosen anew where the Local set is offered (5.3, 5.4)",
  async (lab) => {
    const service = await localPolicy(lab);
    await remember(lab, "stranger", service, { cell: cellOf(service, "backend2") });
    await keeps(lab, "stranger", "backend2", { at: "vip" }, 3);
    assert.deepEqual(await opens(lab, "stranger", { at: "lb" }), { host: "backend4", kept: false });
    // remembered, and in the Cluster set too
    await keeps(lab, "stranger", "backend4", { at: "vip" }, 3);
  },
);

twins(
  bench,
  "A sender inside is offered the Cluster set at a frontend with a Local policy, and keeps its backend (4.12, 5.4)",
  async (lab) => {
    const service = await localPolicy(lab);
    await remember(lab, "client", service, { cell: cellOf(service, "backend2") });
    await keeps(lab, "client", "backend2", { at: "lb" }, 4);
  },
);

twins(
  bench,
  "A sender inside is held to the Local set by an internal policy Local (4.10, 5.3)",
  async (lab) => {
    const service = await sticky(lab, {
      endpoints: endpointsIn(CLUSTER | LOCAL, ["backend"]),
      flags: FrontendFlag.FRONTEND_INTERNAL_LOCAL | FrontendFlag.FRONTEND_EXTERNAL_LOCAL,
    });
    const spare = await lab.publish({ ...service, cells: [] }, endpointsIn(CLUSTER, ["backend2"]));
    await lab.frontend(service, service.spec);
    await remember(lab, "client", service, { cell: cellOf(spare, "backend2") });
    assert.deepEqual(await opens(lab), { host: "backend", kept: false });
  },
);

twins(bench, "A client is remembered for as long as its Service says, to the second (5.5)", async (lab) => {
  const service = await sticky(lab);
  const cell = cellOf(service, "backend2");
  await remember(lab, "client", service, { cell, age: BigInt(TIMEOUT - 1) * SECOND });
  assert.deepEqual(await opens(lab), { host: "backend2", kept: true });
  await remember(lab, "client", service, { cell, age: BigInt(TIMEOUT) * SECOND });
  assert.equal((await opens(lab)).kept, false);
});

twins(bench, "The longest affinity, a day, is no overflow (5.5)", async (lab) => {
  const service = await sticky(lab, { affinitySeconds: 86400 });
  const cell = cellOf(service, "backend2");
  await remember(lab, "client", service, { cell, age: 86399n * SECOND });
  assert.deepEqual(await opens(lab), { host: "backend2", kept: true });
  await remember(lab, "client", service, { cell, age: 86400n * SECOND });
  assert.equal((await opens(lab)).kept, false);
});

twins(bench, "A new flow makes the time begin anew: affinity slides (5.5)", async (lab) => {
  const service = await sticky(lab);
  await remember(lab, "client", service, { cell: cellOf(service, "backend2"), age: 90n * SECOND });
  await opens(lab);
  const age = (await remembered(lab)).get(`client ${service.index}`)?.age ?? 90n * SECOND;
  assert.ok(age >= 0n && age < 10n * SECOND, `last new flow ${age} ns ago`);
});

twins(bench, "Packets of an open flow do not make the time begin anew (5.5)", async (lab) => {
  const service = await sticky(lab);
  await remember(lab, "client", service, { cell: cellOf(service, "backend2") });
  await lab.run("ptl_pod_in", lab.packet("client", "vip", opening("tcp", 40000, 80)));
  await remember(lab, "client", service, { cell: cellOf(service, "backend2"), age: 90n * SECOND });
  const again = await lab.run("ptl_pod_in", lab.packet("client", "vip", opening("tcp", 40000, 80)));
  assert.deepEqual(again.reasons, { TRANSLATED: 1 });
  const age = (await remembered(lab)).get(`client ${service.index}`)?.age ?? 0n;
  assert.ok(age >= 90n * SECOND, `last new flow ${age} ns ago`);
});

twins(bench, "A backend chosen anew is remembered from that moment (5.3, 5.5)", async (lab) => {
  const service = await sticky(lab);
  await remember(lab, "client", service, { cell: cellOf(service, "backend2"), age: 3600n * SECOND });
  const { host } = await opens(lab);
  const entry = (await remembered(lab)).get(`client ${service.index}`);
  assert.equal(entry?.cell, cellOf(service, host));
  assert.equal(entry?.generation, 1);
  assert.ok((entry?.age ?? 3600n * SECOND) < 10n * SECOND);
});

twins(bench, "A flow that another processor opened a moment later is no expired one (5.5)", async (lab) => {
  // its time is written after this processor has read the clock
  const service = await sticky(lab);
  await remember(lab, "client", service, { cell: cellOf(service, "backend2"), age: -SECOND });
  await keeps(lab, "client", "backend2", {}, 1);
});

twins(
  bench,
  "A UDP flow that loses its backend chooses anew with its client's affinity (5.9, 9.3)",
  async (lab) => {
    const service = await sticky(lab, { protocol: "udp" });
    await remember(lab, "client", service, { cell: cellOf(service, "backend2") });
    await lab.run("ptl_pod_in", lab.packet("client", "vip", opening("udp", 40000, 80)));
    await lab.retire(cellOf(service, "backend2"), service.index, { host: "unspecified", port: 0 });
    await remember(lab, "client", service, { cell: cellOf(service, "backend3") });
    await lab.expect("ptl_pod_in", lab.packet("client", "vip", opening("udp", 40000, 80)), {
      packet: lab.packet("client", "backend3", opening("udp", 40000, 8080)),
      reasons: ["FLOW_NEW", "BACKEND_STALE", "AFFINITY_KEPT"],
    });
  },
);

twins(bench, "A Service without endpoints remembers nothing (5.3, 7.1)", async (lab) => {
  await sticky(lab, { endpoints: [] });
  const outcome = await lab.run("ptl_pod_in", lab.packet("client", "vip", opening("tcp", 40000, 80)));
  assert.deepEqual(outcome.reasons, { REJECT_NO_BACKEND: 1 });
  assert.equal((await remembered(lab)).size, 0);
});

twins(bench, "A client that is masqueraded is remembered by its own address (5.1)", async (lab) => {
  const service = await sticky(lab, { flags: FrontendFlag.FRONTEND_MASQUERADE });
  const { host } = await opens(lab, "stranger");
  assert.deepEqual([...(await remembered(lab)).keys()], [`stranger ${service.index}`]);
  await keeps(lab, "stranger", host, {}, 3);
});

twins(bench, "A pod that is remembered at itself reaches itself, as the node (5.1, 8.7)", async (lab) => {
  const service = await sticky(lab);
  await remember(lab, "backend3", service, { cell: cellOf(service, "backend3") });
  assert.deepEqual(await opens(lab, "backend3"), { host: "backend3", kept: true });
  assert.equal((await lab.natEntries()).length, 3, "the masquerade is asked for");
});
