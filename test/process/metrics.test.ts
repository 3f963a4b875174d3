// SPDX-License-Identifier: Apache-2.0
// Every family of /metrics of a real agent, after changes, traffic and a kube-proxy before it: which have samples, and which values.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { eventually, type NodeAgent } from "../support/cluster.js";
import { iptablesRules } from "../support/kube-proxy-rules.js";
import { anyService, endpointSlice, type KubeObject, service } from "../support/manifests.js";
import { Rig, VIP } from "./support/rig.js";

const METRICS = "http://127.0.0.1:10249";
const DNS_VIP = "10.96.7.40";
const DNS_PORT = 5353;
const UDP = "UDP" as const;
/** Nothing answers there. */
const ELSEWHERE = "10.244.99.99";

/** Families whose first sample comes with what has not happened here: a label says what, and nobody knows before which. */
const WITHOUT_SAMPLES = [
  "portolan_audit_repaired_entries_total",
  "portolan_refused_service_ports",
  "portolan_source_garbage_total",
];

let rig: Rig;
let agent: NodeAgent;
let text = "";

/** A slice as the endpoint slice controller writes it: with the time of the change that made it. */
function triggered(object: KubeObject): KubeObject {
  const annotations = { "endpoints.kubernetes.io/last-change-trigger-time": new Date().toISOString() };
  return { ...object, metadata: { ...object.metadata, ...{ annotations } } };
}

const dnsSlice = (address: string): KubeObject =>
  triggered(endpointSlice("dns", [address], [{ name: "dns", port: DNS_PORT, protocol: UDP }]));

/** A UDP flow that a kube-proxy's rules have translated, as conntrack knows it. */
async function flowOfKubeProxy(): Promise<void> {
  const { caller, node, web } = rig;
  const pod = await caller;
  // Until the agent has started, however long that takes: conntrack forgets a flow that it has seen one answer of in 30 s.
  await node.sysctl({ "net/netfilter/nf_conntrack_udp_timeout": 3600 });
  const rules = iptablesRules(
    [
      {
        ...{ name: "default/dns:dns", protocol: "udp", clusterIP: DNS_VIP, port: 53 },
        endpoints: [{ ip: web.ip4, port: DNS_PORT }],
      },
    ],
    { family: 4, clusterCidr: "10.244.0.0/16" },
  );
  await node.exec(["iptables-nft-restore", "--noflush"], { input: rules });
  assert.ok((await pod.open("dns", { dst: DNS_VIP, port: 53, proto: "udp", connected: true })).ok);
  assert.ok((await pod.ask("dns", { timeout: 5_000 })).ok);
}

async function scrape(): Promise<string> {
  text = (await rig.status(`${METRICS}/metrics`, 200)).body;
  return text;
}

const sample = (series: string): number => {
  const line = text.split("\n").find((each) => each.startsWith(`${series} `));
  return line === undefined ? Number.NaN : Number(line.slice(series.length + 1));
};

/** Scrapes until the sample is more than 0. */
const counted = (series: string): Promise<number> =>
  eventually(series, async () => {
    await scrape();
    const value = sample(series);
    return value > 0 ? value : undefined;
  });

before(async () => {
  rig = await Rig.start();
  await rig.serveUdp(DNS_PORT);
  rig.api.create(service("dns", [DNS_VIP], [{ name: "dns", port: 53, protocol: UDP }]));
  rig.api.create(dnsSlice(rig.web.ip4));
  await flowOfKubeProxy();
  agent = await rig.ready([
    ...[
      "--audit-interval",
      "1",
      "--feature-gates",
      "LoggingAlphaOptions=true",
      "--cluster-cidr",
      "10.244.0.0/16",
    ],
  ]);
});

after(() => rig?.close());

test("changes, traffic, probes and audits of a real agent are in its metrics (11.3, 11.4)", async () => {
  const local = anyService("local", ["10.96.7.41"], [{ name: "http", port: 80 }], {
    internalTrafficPolicy: "Local",
  });
  rig.api.create(local);
  rig.api.create(triggered(rig.slice("local", "another-node")));
  for (let i = 0; i < 3; i += 1) assert.ok(await rig.answers(VIP));
  await rig.get("http://127.0.0.1:10256/healthz");
  await rig.get("http://127.0.0.1:10256/livez");
  rig.api.update(dnsSlice(ELSEWHERE));
  const four = 'ip_family="IPv4"';
  assert.equal(await counted(`kubeproxy_conntrack_reconciler_deleted_entries_total{${four}}`), 1, "9.3");
  assert.equal(sample(`kubeproxy_conntrack_reconciler_sync_duration_seconds_count{${four}}`), 1);
  assert.equal(
    await counted(`kubeproxy_sync_proxy_rules_no_local_endpoints_total{${four},traffic_policy="internal"}`),
    1,
  );
  await counted('portolan_audits_total{result="clean"}');
  const http = 'namespace="default",service="web",port="http",protocol="TCP"';
  await counted(`portolan_service_flows_total{${http}}`);
  await counted('rest_client_requests_total{code="201",method="POST",host="127.0.0.1:6443"}');
  rig.api.resetWatches({ resource: "services" });
  await counted('portolan_source_watch_total{resource="services",result="lost"}');
  const positive = [
    `kubeproxy_network_programming_duration_seconds_count{${four}}`,
    ...["", "full_", "partial_"].map(
      (kind) => `kubeproxy_sync_${kind}proxy_rules_duration_seconds_count{${four}}`,
    ),
    `kubeproxy_sync_proxy_rules_last_timestamp_seconds{${four}}`,
    `kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds{${four}}`,
    "kubeproxy_sync_proxy_rules_endpoint_changes_total",
    "kubeproxy_sync_proxy_rules_service_changes_total",
    'kubeproxy_proxy_healthz_total{code="200"}',
    'kubeproxy_proxy_livez_total{code="200"}',
    'rest_client_requests_total{code="200",method="GET",host="127.0.0.1:6443"}',
    'rest_client_request_duration_seconds_count{verb="GET",host="127.0.0.1:6443"}',
    'rest_client_request_duration_seconds_sum{verb="GET",host="127.0.0.1:6443"}',
    'rest_client_request_duration_seconds_count{verb="POST",host="127.0.0.1:6443"}',
    'kubernetes_feature_enabled{name="MultiCIDRServiceAllocator",stage=""}',
    'kubernetes_feature_enabled{name="LoggingAlphaOptions",stage="ALPHA"}',
    `portolan_service_packets_total{${http}}`,
    `portolan_service_bytes_total{${http}}`,
    'portolan_packets_total{verdict="translated",reason="translated"}',
    'portolan_map_entries{map="slots4"}',
    'portolan_map_entries{map="frontends4"}',
    'portolan_map_capacity_entries{map="slots6"}',
    'portolan_map_memory_bytes{map="slots4"}',
    "portolan_map_writes_total",
    "portolan_healthy",
    "portolan_node_eligible",
    "portolan_dataplane_attached",
    "portolan_dataplane_writable",
  ];
  assert.deepEqual(
    positive.filter((series) => !(sample(series) > 0)),
    [],
  );
  assert.equal(sample("kubeproxy_sync_proxy_rules_service_changes_pending"), 0);
  assert.equal(sample("kubeproxy_sync_proxy_rules_endpoint_changes_pending"), 0);
  assert.equal(sample("portolan_map_read_failures_total"), 0);
});

test("every family of /metrics has a sample, but those that are labelled by what has not happened", async () => {
  await scrape();
  const lines = text.split("\n");
  // Node's own come and go with what the process does at the moment.
  const families = lines.flatMap((line) => /^# TYPE (?!nodejs_)(\S+) \S+$/.exec(line)?.[1] ?? []);
  assert.ok(families.length > 60, `${families.length} families`);
  const named = new Set(lines.flatMap((line) => /^([a-z0-9_]+)[{ ]/.exec(line)?.[1] ?? []));
  const empty = families.filter((name) => ![name, `${name}_count`].some((each) => named.has(each)));
  assert.deepEqual(empty.sort(), WITHOUT_SAMPLES);
  const slis = (await rig.status(`${METRICS}/metrics/slis`, 200)).body;
  assert.match(slis, /^kubernetes_healthcheck\{.*\} 1$/m);
  assert.match(slis, /^kubernetes_healthchecks_total\{.*\} [1-9]/m);
});

test("/flagz shows the flags that were given, and /configz what they and the defaults come to (11.1)", async () => {
  const { body } = await rig.status(`${METRICS}/flagz`, 200);
  assert.match(body, /^kube-proxy flagz\nWarning: /);
  assert.match(body, /^--cluster-cidr=10\.244\.0\.0\/16$/m);
  assert.match(body, new RegExp(`^--bpf-root=${rig.bpfRoot}$`, "m"));
  assert.doesNotMatch(body, /--oom-score-adj/);
  const config = JSON.parse((await rig.status(`${METRICS}/configz`, 200)).body)["kubeproxy.config.k8s.io"];
  assert.equal(config.clusterCIDR, "10.244.0.0/16");
  assert.equal(config.oomScoreAdj, -999);
  assert.equal(agent.running, true);
});
