// SPDX-License-Identifier: Apache-2.0
/** The metrics that kube-proxy's dashboards and alerts name: their names, types, labels and buckets (11.3, 11.4). */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import type { AgentMetrics } from "../../../../src/daemon/metrics/agent-metrics.js";
import { compile } from "../../../../src/image/compile.js";
import type { Image, ServicePortImage } from "../../../../src/image/types.js";
import { endpoint, ip, service, slice, snapshot } from "../../../fixtures/objects.js";
import { rig, syncResult } from "./rig.js";

const EMPTY: Image = {
  servicePorts: new Map<string, ServicePortImage>(),
  problems: [],
  nodePortAddresses: [],
  serviceNetworks: [],
};

const RULE_BUCKETS =
  "0.001 0.002 0.004 0.008 0.016 0.032 0.064 0.128 0.256 0.512 1.024 2.048 4.096 8.192 16.384 +Inf";
const range = (from: number, to: number, by: number): readonly number[] =>
  Array.from({ length: Math.floor((to - from) / by) + 1 }, (_, i) => from + i * by);
const PROGRAMMING_BUCKETS = [
  0.25,
  0.5,
  ...range(1, 59, 1),
  ...range(60, 115, 5),
  ...range(120, 300, 30),
  "+Inf",
].join(" ");

type Row = readonly [name: string, type: string, labels: string, buckets?: string];

/** Rule 11.3, row by row; iptables_localhost_nodeports_accepted_packets_total is left out, see docs/metrics.md. */
const TABLE: readonly Row[] = [
  ["sync_proxy_rules_duration_seconds", "histogram", "ip_family", RULE_BUCKETS],
  ["sync_full_proxy_rules_duration_seconds", "histogram", "ip_family", RULE_BUCKETS],
  ["sync_partial_proxy_rules_duration_seconds", "histogram", "ip_family", RULE_BUCKETS],
  ["sync_proxy_rules_last_timestamp_seconds", "gauge", "ip_family"],
  ["sync_proxy_rules_last_queued_timestamp_seconds", "gauge", "ip_family"],
  ["network_programming_duration_seconds", "histogram", "ip_family", PROGRAMMING_BUCKETS],
  ["sync_proxy_rules_endpoint_changes_pending", "gauge", ""],
  ["sync_proxy_rules_endpoint_changes_total", "counter", ""],
  ["sync_proxy_rules_service_changes_pending", "gauge", ""],
  ["sync_proxy_rules_service_changes_total", "counter", ""],
  ["sync_proxy_rules_no_local_endpoints_total", "gauge", "ip_family traffic_policy"],
  ["sync_proxy_rules_iptables_total", "gauge", "ip_family table"],
  ["sync_proxy_rules_iptables_last", "gauge", "ip_family table"],
  ["sync_proxy_rules_iptables_restore_failures_total", "counter", "ip_family"],
  ["sync_proxy_rules_iptables_partial_restore_failures_total", "counter", "ip_family"],
  ["sync_proxy_rules_nftables_sync_failures_total", "counter", "ip_family"],
  ["sync_proxy_rules_nftables_cleanup_failures_total", "counter", "ip_family"],
  ["iptables_ct_state_invalid_dropped_packets_total", "counter", ""],
  ["conntrack_reconciler_sync_duration_seconds", "histogram", "ip_family", RULE_BUCKETS],
  ["conntrack_reconciler_deleted_entries_total", "counter", "ip_family"],
  ["proxy_healthz_total", "counter", "code"],
  ["proxy_livez_total", "counter", "code"],
];

describe("the kubeproxy_ metrics (11.3)", () => {
  for (const [name, type, labels, buckets] of TABLE) {
    it(`include ${name}, a ${type} by [${labels}], from the first scrape on`, async () => {
      const full = `kubeproxy_${name}`;
      const { metrics, lines } = rig();
      assert.match(await metrics.registry.metrics(), new RegExp(`^# TYPE ${full} ${type}$`, "m"));
      const sampleName = type === "histogram" ? `${full}_count` : full;
      const [first = ""] = (await lines(sampleName)).filter((line) =>
        /[{ ]/.test(line[sampleName.length] ?? ""),
      );
      const names = Array.from(first.matchAll(/(\w+)="/g), (match) => match[1]);
      assert.notEqual(first, "", "no sample");
      assert.equal(names.join(" "), labels);
      if (labels.startsWith("ip_family")) assert.match(first, /ip_family="IPv4"/);
      if (buckets === undefined) return;
      const inOrder = (await lines(`${full}_bucket`)).flatMap((line) =>
        line.includes('ip_family="IPv4"') ? (/le="([^"]+)"/.exec(line)?.[1] ?? []) : [],
      );
      assert.equal(inOrder.join(" "), buckets);
    });
  }

  it("are no others than those", async () => {
    const { metrics } = rig();
    const names = metrics.registry
      .getMetricsAsArray()
      .flatMap(({ name }) => name.match(/^kubeproxy_(.*)/)?.[1] ?? []);
    assert.deepEqual(names.sort(), TABLE.map(([name]) => name).sort());
  });

  it("time each sync, full or partial, in both families", async () => {
    const { timers, metrics, sample } = rig();
    const { syncWatch } = metrics;
    syncWatch.queued({ services: 2, endpoints: 3 });
    const queuedAt = timers.epoch() / 1000;
    syncWatch.started();
    timers.advance(5);
    syncWatch.applied(EMPTY, { result: syncResult(), milliseconds: 5, full: true });
    syncWatch.started();
    syncWatch.applied(EMPTY, { result: syncResult(), milliseconds: 1, full: false });
    for (const family of ["IPv4", "IPv6"]) {
      const of = (name: string): Promise<number | undefined> =>
        sample(`kubeproxy_${name}{ip_family="${family}"}`);
      assert.equal(await of("sync_proxy_rules_duration_seconds_count"), 2);
      assert.equal(await of("sync_proxy_rules_duration_seconds_sum"), 0.006);
      assert.equal(await of("sync_full_proxy_rules_duration_seconds_sum"), 0.005);
      assert.equal(await of("sync_partial_proxy_rules_duration_seconds_sum"), 0.001);
      assert.equal(await of("sync_proxy_rules_last_queued_timestamp_seconds"), queuedAt);
      assert.equal(await of("sync_proxy_rules_last_timestamp_seconds"), timers.epoch() / 1000);
    }
  });

  it("keep changes pending until the sync that took them along is committed", async () => {
    const { metrics, sample } = rig();
    const { syncWatch, sync } = metrics;
    const pending = (): Promise<unknown> =>
      Promise.all(
        ["service", "endpoint"].map((what) => sample(`kubeproxy_sync_proxy_rules_${what}_changes_pending`)),
      );
    sync.objectChanged("services");
    sync.objectChanged("endpointslices");
    sync.objectChanged("endpointslices");
    sync.objectChanged("nodes");
    syncWatch.queued();
    assert.deepEqual(await pending(), [1, 2]);
    sync.published();
    syncWatch.started();
    sync.objectChanged("services");
    syncWatch.failed("E_KERNEL", "ENOMEM");
    assert.deepEqual(await pending(), [2, 2]);
    sync.published();
    sync.objectChanged("endpointslices"); // no Snapshot holds it yet
    syncWatch.queued(); // the host has changed
    syncWatch.started();
    syncWatch.applied(EMPTY, { result: syncResult(), milliseconds: 1, full: false });
    assert.deepEqual(await pending(), [0, 1]);
    assert.equal(await sample("kubeproxy_sync_proxy_rules_service_changes_total"), 2);
    assert.equal(await sample("kubeproxy_sync_proxy_rules_endpoint_changes_total"), 3);
    assert.equal(await sample('portolan_sync_failures_total{code="E_KERNEL"}'), 1);
  });

  it("leave the time of the last success alone when a sync fails", async () => {
    const { timers, metrics, sample } = rig();
    metrics.syncWatch.queued();
    metrics.syncWatch.started();
    timers.advance(1_000);
    metrics.syncWatch.failed("E_WRITE_REFUSED", "frontends4: ENOMEM");
    assert.equal(await sample('kubeproxy_sync_proxy_rules_last_timestamp_seconds{ip_family="IPv4"}'), 0);
  });

  it("count service ports whose only endpoints are elsewhere, by policy and family (7.9)", async () => {
    const { metrics, sample } = rig();
    const elsewhere = [endpoint("10.0.2.1", { nodeName: "node-b" })];
    const local = { internalTrafficPolicyLocal: true };
    const external = {
      type: "LoadBalancer",
      externalTrafficPolicyLocal: true,
      loadBalancerIPs: [ip("1.2.3.4"), ip("1.2.3.5")],
    } as const;
    const here = [endpoint("10.0.1.1", { nodeName: "node-a" })];
    const image = compile(
      snapshot(
        [
          service("internal", { ...local, clusterIPs: [ip("10.96.0.1")] }),
          service("external", { ...external, clusterIPs: [ip("10.96.0.2")] }),
          service("here", { ...local, clusterIPs: [ip("10.96.0.3")] }),
          // Rejected, not dropped: that is no matter of policy (7.1).
          service("nowhere", { ...local, clusterIPs: [ip("10.96.0.4")] }),
        ],
        [slice("internal", elsewhere), slice("external", elsewhere), slice("here", here)],
      ),
    );
    metrics.syncWatch.applied(image, { result: syncResult(), milliseconds: 1, full: true });
    const of = (family: string, policy: string): Promise<number | undefined> =>
      sample(
        `kubeproxy_sync_proxy_rules_no_local_endpoints_total{ip_family="${family}",traffic_policy="${policy}"}`,
      );
    assert.equal(await of("IPv4", "internal"), 1);
    assert.equal(await of("IPv4", "external"), 1);
    assert.equal(await of("IPv6", "internal"), 0);
    assert.equal(await of("IPv6", "external"), 0);
    assert.equal(await sample("portolan_service_ports"), 4);
    assert.equal(await sample('portolan_backends{ip_family="IPv4"}'), 3);
  });
});

/** A Snapshot with all that has changed is told, and a sync begins with it. */
function publishAndStart({ latency }: AgentMetrics): void {
  latency.published();
  latency.started();
}

describe("network_programming_duration_seconds (11.5)", () => {
  const series = (what: string): string =>
    `kubeproxy_network_programming_duration_seconds_${what}{ip_family="IPv4"}`;

  it("measures from each change's own time to the commit, by the slice's family", async () => {
    const { timers, metrics, sample } = rig();
    timers.advance(10_000);
    metrics.latency.changed("ns/a", 4, timers.epoch() - 2_000);
    metrics.latency.changed("ns/a", 4, timers.epoch());
    metrics.latency.changed("ns/a", 6, timers.epoch());
    publishAndStart(metrics);
    timers.advance(1_000);
    metrics.latency.applied();
    assert.equal(await sample(series("count")), 2);
    assert.equal(await sample(series("sum")), 4);
    assert.equal(await sample('kubeproxy_network_programming_duration_seconds_sum{ip_family="IPv6"}'), 1);
    publishAndStart(metrics);
    metrics.latency.applied();
    assert.equal(await sample(series("count")), 2);
  });

  it("claims no change for a sync whose snapshot does not hold it yet", async () => {
    const { timers, metrics, sample } = rig();
    timers.advance(10);
    metrics.latency.changed("ns/a", 4, timers.epoch());
    // The host has changed: a sync of the snapshot before.
    metrics.syncWatch.queued();
    metrics.latency.started();
    metrics.latency.applied();
    assert.equal(await sample(series("count")), 0);
    timers.advance(3_000);
    publishAndStart(metrics);
    metrics.latency.applied();
    assert.equal(await sample(series("count")), 1);
    assert.equal(await sample(series("sum")), 3);
  });

  it("ignores what happened before the process began", async () => {
    const { timers, metrics, sample } = rig();
    metrics.latency.changed("ns/a", 4, timers.epoch() - 1);
    metrics.latency.changed("ns/a", 4, timers.epoch());
    publishAndStart(metrics);
    metrics.latency.applied();
    assert.equal(await sample(series("count")), 0);
  });

  it("drops what a deleted slice's Service was waiting for", async () => {
    const { timers, metrics, sample } = rig();
    timers.advance(10);
    metrics.latency.changed("ns/a", 4, timers.epoch());
    metrics.latency.changed("ns/b", 4, timers.epoch());
    metrics.latency.deleted("ns/a", 4);
    publishAndStart(metrics);
    metrics.latency.deleted("ns/b", 4);
    metrics.latency.applied();
    assert.equal(await sample(series("count")), 0);
  });

  it("counts a change that came during a sync with the next one, and one of a failed sync when it succeeds", async () => {
    const { timers, metrics, sample } = rig();
    timers.advance(10);
    metrics.latency.changed("ns/a", 4, timers.epoch());
    publishAndStart(metrics);
    metrics.latency.changed("ns/b", 4, timers.epoch());
    timers.advance(1_000); // it fails
    publishAndStart(metrics);
    metrics.latency.changed("ns/c", 4, timers.epoch());
    metrics.latency.applied();
    assert.equal(await sample(series("count")), 2);
    assert.equal(await sample(series("sum")), 2);
  });
});

describe("metrics of the shared libraries (11.4)", () => {
  it("count requests to the API server as client-go does", async () => {
    const { metrics, sample } = rig();
    metrics.source.request("GET", "10.0.0.1:6443", "200", 30);
    metrics.source.request("GET", "10.0.0.1:6443", "<error>", 70);
    const host = 'host="10.0.0.1:6443"';
    assert.equal(await sample(`rest_client_requests_total{code="200",method="GET",${host}}`), 1);
    assert.equal(await sample(`rest_client_requests_total{code="<error>",method="GET",${host}}`), 1);
    assert.equal(await sample(`rest_client_request_duration_seconds_sum{verb="GET",${host}}`), 0.1);
  });

  it("say the API server's release in kubernetes_build_info, once it is known", async () => {
    const { metrics, lines } = rig();
    metrics.build.setKubernetesVersion("v1.35.2+k3s1");
    const found = await lines("kubernetes_build_info{");
    assert.equal(found.length, 1);
    assert.match(found[0] ?? "", /major="1",minor="35",git_version="v1\.35\.2\+k3s1"/);
  });

  it("list configured feature gates", async () => {
    const { metrics, sample } = rig();
    metrics.build.setFeatures([{ name: "X", stage: "ALPHA", enabled: false }]);
    assert.equal(await sample('kubernetes_feature_enabled{name="X",stage="ALPHA"}'), 0);
  });

  it("hold the process's own, as dashboards have them", async () => {
    const { sample } = rig();
    for (const name of [
      "process_resident_memory_bytes",
      "process_cpu_seconds_total",
      "process_start_time_seconds",
    ])
      assert.ok(((await sample(name)) ?? 0) > 0, name);
  });
});
