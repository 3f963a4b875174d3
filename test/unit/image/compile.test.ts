// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { test } from "node:test";
import { compile, createCompiler } from "../../../src/image/compile.js";
import { describeImage, imageLines } from "../../../src/image/describe.js";
import { inSlices } from "../../../src/util/slices.js";
import { endpoint, ip, NODE, service, slice, snapshot } from "../../fixtures/objects.js";

const web = service("web", { clusterIPs: [ip("10.96.0.1"), ip("fd00:96::1")] });

test("compile() gives a Service its frontends in both families, each with its own backends (2.2, 13.6)", () => {
  const slices = [slice("web", [endpoint("10.0.0.2"), endpoint("10.0.0.1", { nodeName: "node-a" })])];
  assert.deepEqual(imageLines(compile(snapshot([web], slices))), [
    "10.96.0.1:80/TCP ClusterIP default/web -> 10.0.0.1:8080 (local) 10.0.0.2:8080",
    "[fd00:96::1]:80/TCP ClusterIP default/web -> reject",
  ]);
  const both = [...slices, slice("web", [endpoint("fd00::9")], { name: "web-6" })];
  const port = compile(snapshot([web], both)).servicePorts.get("default/web:/TCP");
  assert.deepEqual(
    port?.frontends.map((f) => f.internal.backends),
    [[0, 1], [2]],
  );
});

test("compile() gives nothing of a family without a ClusterIP (2.3), nor of a Service without any (2.1)", () => {
  const slices = [
    slice("web", [endpoint("10.0.0.1")]),
    slice("web", [endpoint("fd00::9")], { name: "web-6" }),
  ];
  const four = compile(snapshot([service("web")], slices)).servicePorts.get("default/web:/TCP");
  assert.deepEqual(
    four?.backends.map((b) => b.address.text),
    ["10.0.0.1"],
  );
  assert.equal(compile(snapshot([service("web", { clusterIPs: [] })], slices)).servicePorts.size, 0);
});

test("compile() keeps what serves as a backend although it is not chosen (9.3, 9.7)", () => {
  const slices = [
    slice("web", [
      endpoint("10.0.0.1"),
      endpoint("10.0.0.2", { ready: false, terminating: true }),
      endpoint("10.0.0.3", { ready: false, serving: false, terminating: true }),
      endpoint("10.0.0.4", { ready: false }),
    ]),
  ];
  assert.deepEqual(imageLines(compile(snapshot([service("web")], slices))), [
    "10.96.0.1:80/TCP ClusterIP default/web -> 10.0.0.1:8080",
    "10.0.0.2:8080/TCP unchosen backend of default/web",
    "10.0.0.3:8080/TCP not serving backend of default/web",
    "10.0.0.4:8080/TCP unchosen backend of default/web",
  ]);
});

test("compile() drops for a local policy with endpoints elsewhere only, rejects without any (7.1, 7.2)", () => {
  const local = service("web", { internalTrafficPolicyLocal: true });
  const lines = (snapshotOf: Parameters<typeof compile>[0]): string[] => imageLines(compile(snapshotOf));
  assert.deepEqual(lines(snapshot([local], [slice("web", [endpoint("10.0.0.1")])])), [
    "10.96.0.1:80/TCP ClusterIP default/web -> drop",
    "10.0.0.1:8080/TCP unchosen backend of default/web",
  ]);
  assert.deepEqual(lines(snapshot([local])), ["10.96.0.1:80/TCP ClusterIP default/web -> reject"]);
});

test("compile() keeps ports of one number and two protocols apart (2.4)", () => {
  const ports = [
    { name: "dns", protocol: "UDP", port: 53, nodePort: 0 },
    { name: "dns-tcp", protocol: "TCP", port: 53, nodePort: 0 },
  ] as const;
  const one = slice("dns", [endpoint("10.0.0.1")], {
    ports: [{ name: "dns", protocol: "UDP", port: 5353 }],
  });
  assert.deepEqual(imageLines(compile(snapshot([service("dns", { ports })], [one]))), [
    "10.96.0.1:53/TCP ClusterIP default/dns:dns-tcp -> reject",
    "10.96.0.1:53/UDP ClusterIP default/dns:dns -> 10.0.0.1:5353",
  ]);
});

test("compile() serves one port with three protocols from three sets of backends (2.4)", () => {
  const ports = (["TCP", "UDP", "SCTP"] as const).map((protocol) => {
    return { name: protocol.toLowerCase(), protocol, port: 53, nodePort: 0 };
  });
  const targets = ports.map(({ name, protocol }, i) => ({ name, protocol, port: 5301 + i }));
  const image = compile(
    snapshot([service("dns", { ports })], [slice("dns", [endpoint("10.0.0.1")], { ports: targets })]),
  );
  assert.deepEqual(imageLines(image), [
    "10.96.0.1:53/SCTP ClusterIP default/dns:sctp -> 10.0.0.1:5303",
    "10.96.0.1:53/TCP ClusterIP default/dns:tcp -> 10.0.0.1:5301",
    "10.96.0.1:53/UDP ClusterIP default/dns:udp -> 10.0.0.1:5302",
  ]);
  assert.deepEqual(image.problems, []);
});

const CONFLICTS = [
  [
    "the older one",
    { creationTimestamp: "2026-01-02T00:00:00Z" },
    { creationTimestamp: "2026-01-01T23:00:00+00:00" },
    "b",
  ],
  ["one with an age before one without", {}, { creationTimestamp: "2026-01-01T00:00:00Z" }, "b"],
  [
    "of one age the first by name",
    { creationTimestamp: "2026-01-01T01:00:00+01:00" },
    { creationTimestamp: "2026-01-01T00:00:00Z" },
    "a",
  ],
  ["without ages the first by name", {}, {}, "a"],
] as const;

for (const [title, a, b, winner] of CONFLICTS) {
  test(`compile() gives a contested VIP to ${title} (2.22)`, () => {
    for (const services of [
      [service("a", a), service("b", b)],
      [service("b", b), service("a", a)],
    ]) {
      const image = compile(snapshot(services));
      assert.deepEqual(Array.from(image.servicePorts.keys()), [`default/${winner}:/TCP`]);
      const loser = winner === "a" ? "b" : "a";
      assert.deepEqual(
        image.problems.map((p) => [p.severity, p.object]),
        [["warning", `Service default/${loser}`]],
      );
      assert.match(
        image.problems[0]?.message ?? "",
        new RegExp(`10\\.96\\.0\\.1:80/TCP belongs to Service default/${winner} `),
      );
    }
  });
}

test("compile() takes from the loser what is contested and nothing else (2.22)", () => {
  const other = service("z", { clusterIPs: [ip("10.96.0.1"), ip("fd00:96::2")] });
  const image = compile(snapshot([web, other]));
  assert.deepEqual(imageLines(image), [
    "10.96.0.1:80/TCP ClusterIP default/web -> reject",
    "[fd00:96::1]:80/TCP ClusterIP default/web -> reject",
    "[fd00:96::2]:80/TCP ClusterIP default/z -> reject",
  ]);
});

test("createCompiler() gives the VIP to the next one when its owner goes, and back (2.22)", () => {
  const compiler = createCompiler();
  const [a, b, c] = [service("a"), service("b"), service("c")];
  const owner = (...services: (typeof a)[]): string[] =>
    Array.from(compiler.compile(snapshot(services)).servicePorts.values(), (port) => port.name);
  assert.deepEqual(owner(a, b, c), ["a"]);
  assert.deepEqual(owner(b, c), ["b"]);
  assert.deepEqual(owner(c), ["c"]);
  assert.deepEqual(owner(a, b, c), ["a"]);
  assert.deepEqual(owner({ ...a, clusterIPs: [ip("10.96.0.9")] }, b, c), ["a", "b"]);
});

test("compile() refuses a ClusterIP that is an address of this node", () => {
  const node = { ...NODE, addresses: [ip("10.96.0.1")] };
  const image = compile(snapshot([web], [], node));
  assert.deepEqual(imageLines(image), ["[fd00:96::1]:80/TCP ClusterIP default/web -> reject"]);
  assert.match(image.problems[0]?.message ?? "", /10\.96\.0\.1 is an address of node node-a/);
  assert.equal(image.problems[0]?.object, "Service default/web");
});

test("compile() leaves out a port that repeats an earlier one of its Service", () => {
  const port = { name: "", protocol: "TCP", port: 80, nodePort: 0 } as const;
  const image = compile(snapshot([service("web", { ports: [port, { ...port, name: "b" }] })]));
  assert.deepEqual(Array.from(image.servicePorts.keys()), ["default/web:/TCP"]);
  assert.equal(image.problems[0]?.field, "spec.ports[1]");
});

test("createCompiler() keeps the identity of what did not change", () => {
  const compiler = createCompiler();
  const [a, b] = [service("a"), service("b", { clusterIPs: [ip("10.96.0.2")] })];
  const before = snapshot([a, b], [slice("a", [endpoint("10.0.0.1")]), slice("b", [endpoint("10.0.0.2")])]);
  const first = compiler.compile(before);
  assert.equal(compiler.compile(before), first, "the same snapshot is the same image");

  const same = snapshot(
    [{ ...a }, b],
    [slice("a", [endpoint("10.0.0.1")]), slice("b", [endpoint("10.0.0.2")])],
  );
  assert.equal(compiler.compile(same), first, "equal content is the same image");

  const changed = snapshot([a, b], [slice("a", [endpoint("10.0.0.1")]), slice("b", [endpoint("10.0.0.3")])]);
  const second = compiler.compile(changed);
  assert.equal(second.servicePorts.get("default/a:/TCP"), first.servicePorts.get("default/a:/TCP"));
  assert.notEqual(second.servicePorts.get("default/b:/TCP"), first.servicePorts.get("default/b:/TCP"));
});

test("createCompiler() compiles everything again when the node changes", () => {
  const compiler = createCompiler();
  const slices = [slice("web", [endpoint("10.0.0.1", { nodeName: "node-b" })])];
  const one = snapshot([service("web")], slices);
  assert.deepEqual(compiler.compile(one).servicePorts.get("default/web:/TCP")?.backends[0]?.local, false);
  const moved = { ...one, node: { ...NODE, name: "node-b" } };
  assert.deepEqual(compiler.compile(moved).servicePorts.get("default/web:/TCP")?.backends[0]?.local, true);
});

test("createCompiler() can be paused, and abandoned, without harm", async () => {
  const services = Array.from({ length: 300 }, (_, i) =>
    service(`s-${i}`, { clusterIPs: [ip(`10.97.${i >> 8}.${i & 255}`)] }),
  );
  const input = snapshot(services);
  const compiler = createCompiler();
  const abandoned = compiler.compileSliced(input);
  abandoned.next();
  let pauses = 0;
  const turn = async (): Promise<void> => {
    pauses += 1;
  };
  const image = await inSlices(compiler.compileSliced(input), { budgetMs: 0, turn });
  assert.ok(pauses > 3, `${pauses} pauses`);
  assert.deepEqual(describeImage(image), describeImage(compile(input)));
});

test("describeImage() is stable JSON with addresses as text", () => {
  const slices = [slice("web", [endpoint("10.0.0.1", { nodeName: "node-a" })])];
  const image = compile(snapshot([service("web", { sessionAffinitySeconds: 60 })], slices));
  assert.deepEqual(JSON.parse(JSON.stringify(describeImage(image))), {
    servicePorts: [
      {
        key: "default/web:/TCP",
        namespace: "default",
        name: "web",
        portName: "",
        protocol: "TCP",
        affinitySeconds: 60,
        backends: [{ address: "10.0.0.1:8080", local: true, serving: true }],
        frontends: [
          {
            kind: "ClusterIP",
            family: 4,
            address: "10.96.0.1:80",
            masquerade: "never",
            sourceRanges: null,
            internal: { backends: ["10.0.0.1:8080"], whenEmpty: "reject", set: "cluster" },
            external: { backends: ["10.0.0.1:8080"], whenEmpty: "reject", set: "cluster" },
          },
        ],
      },
    ],
    nodePortAddresses: [],
    serviceNetworks: [],
    problems: [],
  });
});
