// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { after, describe, it } from "node:test";
import { Counter, Registry } from "prom-client";
import { MetricsServer, type MetricsServerOptions } from "../../../../src/daemon/servers/metrics-server.js";
import { silentLogger } from "../../../../src/util/log.js";
import { type Answer, type Asking, ask } from "./ask.js";

const open: MetricsServer[] = [];
after(() => Promise.all(open.map((server) => server.close())));

type Get = (path: string, asking?: Asking) => Promise<Answer>;

async function serve(options: Partial<MetricsServerOptions> = {}): Promise<Get> {
  const registry = new Registry();
  new Counter({ name: "one_total", help: "One", registers: [registry] }).inc();
  const server = new MetricsServer({
    address: { host: "127.0.0.1", port: 0 },
    registry,
    slis: new Registry(),
    proxyMode: "iptables",
    config: () => ({
      apiVersion: "kubeproxy.config.k8s.io/v1alpha1",
      kind: "KubeProxyConfiguration",
      mode: "",
    }),
    flags: { "--v": "2", "--cluster-cidr": "10.0.0.0/8" },
    version: "1.2.3",
    profiling: false,
    setVerbosity: () => {},
    log: silentLogger,
    onHardFail: null,
    ...options,
  });
  open.push(server);
  await server.start();
  return (path, asking) => ask(server.listening, path, asking);
}

describe("the metrics server (11.1)", () => {
  it("serves /metrics in Prometheus' text format", async () => {
    const get = await serve();
    const { status, headers, body } = await get("/metrics");
    assert.equal(status, 200);
    assert.equal(headers["content-type"], "text/plain; version=0.0.4; charset=utf-8");
    assert.equal(body, "# HELP one_total One\n# TYPE one_total counter\none_total 1\n");
  });

  it("serves the second registry at /metrics/slis", async () => {
    const slis = new Registry();
    new Counter({ name: "sli_total", help: "Sli", registers: [slis] });
    const { body } = await (await serve({ slis }))("/metrics/slis");
    assert.match(body, /^sli_total 0$/m);
    assert.doesNotMatch(body, /one_total/);
  });

  it("says ok at /healthz", async () => {
    const { status, body } = await (await serve())("/healthz");
    assert.deepEqual([status, body], [200, "ok"]);
  });

  it("says the mode at /proxyMode, as plain text without a newline (11.2)", async () => {
    const { headers, body } = await (await serve({ proxyMode: "nftables" }))("/proxyMode");
    assert.equal(body, "nftables");
    assert.match(headers["content-type"] ?? "", /^text\/plain/);
    assert.equal(headers["x-content-type-options"], "nosniff");
  });

  it("shows the effective configuration at /configz under kube-proxy's key, as it is now", async () => {
    let mode = "iptables";
    const get = await serve({ config: () => ({ kind: "KubeProxyConfiguration", mode }) });
    mode = "nftables";
    const { headers, body } = await get("/configz");
    assert.equal(headers["content-type"], "application/json");
    assert.deepEqual(JSON.parse(body), {
      "kubeproxy.config.k8s.io": { kind: "KubeProxyConfiguration", mode: "nftables" },
    });
  });

  it("lists flags at /flagz and says what it is at /statusz", async () => {
    const get = await serve();
    assert.match((await get("/flagz")).body, /\n--cluster-cidr=10\.0\.0\.0\/8\n--v=2\n$/);
    assert.match((await get("/statusz")).body, /^Implementation: portolan 1\.2\.3$/m);
  });

  it("has nothing at other paths", async () => {
    const get = await serve({ profiling: true });
    for (const path of ["/", "/metrics/", "/debug", "/debug/flags/x", "/livez"])
      assert.equal((await get(path)).status, 404, path);
  });
});

describe("/debug with enableProfiling", () => {
  it("is not there without", async () => {
    const get = await serve({
      setVerbosity: () => assert.fail("the log level was set"),
    });
    for (const [path, asking] of [
      ["/debug/pprof/", {}],
      ["/debug/pprof/profile?seconds=1", {}],
      ["/debug/flags/v", { method: "PUT", body: "4" }],
    ] as const)
      assert.equal((await get(path, asking)).status, 404, path);
  });

  it("gives a CPU profile of this process, with what it was busy with", async () => {
    const get = await serve({ profiling: true });
    let answered = false;
    const spin = (): void => {
      let sum = 0;
      for (let i = 0; i < 1e6; i += 1) sum += Math.sqrt(i);
      if (!answered && sum > 0) setImmediate(spin);
    };
    spin();
    const { status, headers, body } = await get("/debug/pprof/profile?seconds=0.3");
    answered = true;
    assert.equal(status, 200);
    assert.equal(headers["content-disposition"], 'attachment; filename="portolan.cpuprofile"');
    const { nodes, samples, startTime, endTime } = JSON.parse(body);
    assert.ok(samples.length > 0 && endTime - startTime >= 250_000);
    // Names are the transpiler's here; the file is what tells this function from Node's own.
    const files = nodes.map((node: { callFrame: { url: string } }) => node.callFrame.url);
    assert.ok(files.includes(import.meta.url), files.join());
  });

  it("takes one CPU profile at a time, and refuses odd lengths", async () => {
    const get = await serve({ profiling: true });
    const [one, two] = await Promise.all([
      get("/debug/pprof/profile?seconds=0.3"),
      get("/debug/pprof/profile?seconds=0.3"),
    ]);
    assert.deepEqual([one.status, two.status].sort(), [200, 409]);
    for (const seconds of ["0", "-1", "x", "301"])
      assert.equal((await get(`/debug/pprof/profile?seconds=${seconds}`)).status, 400);
  });

  it("says why Go's other profiles are not there", async () => {
    const get = await serve({ profiling: true });
    const { status, body } = await get("/debug/pprof/goroutine");
    assert.deepEqual([status, body], [404, 'no profile "goroutine" here: there are no goroutines\n']);
    assert.match((await get("/debug/pprof/")).body, /^ {2}heap: a V8 heap snapshot/m);
    assert.match((await get("/debug/pprof/cmdline")).body, /node/);
  });

  it("sets the log level by PUT /debug/flags/v, and by nothing else", async () => {
    const levels: number[] = [];
    const get = await serve({ profiling: true, setVerbosity: (level) => void levels.push(level) });
    const { status, body } = await get("/debug/flags/v", { method: "PUT", body: "4" });
    assert.deepEqual([status, body], [200, "successfully set klog.logging.verbosity to 4"]);
    assert.equal((await get("/debug/flags/v")).status, 405);
    for (const bad of ["", "high", "-1", "1.5", "9".repeat(5_000)])
      assert.equal((await get("/debug/flags/v", { method: "PUT", body: bad })).status, 400);
    assert.deepEqual(levels, [4]);
  });
});
