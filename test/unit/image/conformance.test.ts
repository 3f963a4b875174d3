// SPDX-License-Identifier: Apache-2.0
// The conformance cases against the compiled image alone: what a flow would meet, as the image has it. The runner shows the
// same with packets; this finds in a moment, and without a kernel, that the image is wrong.
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { Readable } from "node:stream";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import type { LocalDetector, ProxyOptions } from "../../../src/config/proxy-options.js";
import { localDetectors, parseProxyOptions, proxyConfig } from "../../../src/config/proxy-options.js";
import { compile } from "../../../src/image/compile.js";
import type { FrontendImage, Image, ServicePortImage } from "../../../src/image/types.js";
import { cidrContains } from "../../../src/net/cidr.js";
import type { Family, IpAddress } from "../../../src/net/ip.js";
import { specialUse } from "../../../src/net/ip.js";
import { formatAddressPort } from "../../../src/net/port.js";
import { readManifests } from "../../../src/source/file/read-manifests.js";
import { manifestsOf } from "../../conformance/form/manifests.js";
import { readCases } from "../../conformance/form/read.js";
import { changed, initialState, type ObjectState } from "../../conformance/form/state.js";
import type { ConformanceCase, Environment, FlowForm, Outcome } from "../../conformance/form/types.js";
import { expectedOf, flowText } from "../../conformance/run/expected.js";
import { ip } from "../../fixtures/objects.js";

/** What no image decides: martians (6.6), and sockets that are left alone. */
const NOT_THE_IMAGES = new Set(["I07", "R23"]);
const CASES = [
  new URL("../../conformance/cases", import.meta.url),
  new URL("../../../../shared/conformance", import.meta.url),
].map((url) => fileURLToPath(url));

interface World {
  readonly image: Image;
  readonly options: ProxyOptions;
  readonly detectors: Readonly<Record<Family, LocalDetector>>;
  readonly local: ReadonlySet<string>;
  readonly environment: Environment;
}

async function worldOf(state: ObjectState, environment: Environment): Promise<World> {
  const { config, node } = environment;
  const options = parseProxyOptions({
    clusterCidr: config.clusterCIDR,
    detectLocalMode: config.detectLocalMode,
    podBridgeInterface: config.bridgeInterface,
    podInterfaceNamePrefix: config.interfaceNamePrefix,
    masqueradeAll: config.masqueradeAll,
    nodeportAddresses: config.nodePortAddresses.join(","),
    proxyMode: config.mode,
    iptablesLocalhostNodeports: config.localhostNodePorts,
    externalIps: config.externalIPs,
    serviceCidr: environment.serviceCIDR.join(","),
  });
  const items = manifestsOf(state, config);
  const stdin = Readable.from([JSON.stringify({ apiVersion: "v1", kind: "List", items })]);
  const { snapshot } = await readManifests(["-"], {
    nodeName: node.name,
    serviceCIDRs: options.serviceCIDRs,
    stdin,
  });
  const localAddresses = [...node.ips, ...node.extraLocalIPs].map(ip);
  const host = {
    localAddresses: localAddresses.filter((address) => specialUse(address) === null),
    reserved: [],
  };
  return {
    image: compile(snapshot, proxyConfig(options, snapshot.node), host),
    options,
    detectors: localDetectors(options.detectLocal, snapshot.node),
    local: new Set(localAddresses.map(({ text }) => text)),
    environment,
  };
}

interface Hit {
  readonly port: ServicePortImage;
  readonly frontend: FrontendImage;
}

/** An exact address goes before a NodePort (6.7). */
function hit(world: World, flow: FlowForm, dst: IpAddress): Hit | null {
  const all = Array.from(world.image.servicePorts.values()).flatMap((port) =>
    port.frontends
      .filter((frontend) => port.protocol === flow.proto && frontend.port === flow.port)
      .map((frontend) => ({ port, frontend })),
  );
  const exact = all.find(({ frontend }) => frontend.address.text === dst.text);
  if (exact !== undefined) return exact;
  const loopback = dst.text.startsWith("127.") && flow.from === "host" && world.options.loopbackNodePorts;
  if (!loopback && !world.image.nodePortAddresses.some(({ text }) => text === dst.text)) return null;
  const ofNode = ({ frontend }: Hit): boolean =>
    frontend.kind === "NodePort" && frontend.address.family === dst.family;
  return all.find(ofNode) ?? null;
}

function isInside(world: World, flow: FlowForm, src: IpAddress): boolean {
  if (flow.from === "host") return true;
  const detector = world.detectors[src.family];
  if (detector === "none") return false;
  if (detector !== "interface") return cidrContains(detector, src);
  const { bridgeInterface, interfaceNamePrefix, detectLocalMode } = world.environment.config;
  if (flow.ingressIf === undefined) return flow.from.startsWith("pod");
  return detectLocalMode === "BridgeInterface"
    ? flow.ingressIf === bridgeInterface
    : flow.ingressIf.startsWith(interfaceNamePrefix);
}

/** In the words of the cases: "REJECT", or each destination and whether it sees an address of the node. */
function met(world: World, flow: FlowForm, src: IpAddress): string | ReadonlyMap<string, boolean> {
  const dst = ip(flow.dst);
  const found = hit(world, flow, dst);
  if (found === null) return unclaimed(world, dst);
  const { port, frontend } = found;
  if (frontend.sourceRanged && !port.sourceRanges.some((range) => cidrContains(range, src))) return "DROP";
  const inside = isInside(world, flow, src);
  const choice = inside ? frontend.internal : frontend.external;
  if (choice.backends.length === 0) return choice.whenEmpty.toUpperCase();
  const outsider = frontend.masquerade === "always" || (frontend.masquerade === "outsiders" && !inside);
  return new Map(
    choice.backends.map((index) => {
      const backend = port.backends[index];
      assert.ok(backend?.serving === true, "what is chosen serves");
      const hairpin = backend.address.text === src.text;
      const masqueraded = outsider || hairpin || world.local.has(src.text);
      return [formatAddressPort(backend.address, backend.port), masqueraded];
    }),
  );
}

/** Section 16: an undefined port of a ClusterIP is refused, an address that no Service has gets no answer. */
function unclaimed({ image }: World, dst: IpAddress): string {
  const clusterIPs = Array.from(image.servicePorts.values()).flatMap(({ frontends }) =>
    frontends.filter(({ kind }) => kind === "ClusterIP").map(({ address }) => address.text),
  );
  if (clusterIPs.includes(dst.text)) return "REJECT";
  return image.serviceNetworks.some((range) => cidrContains(range, dst)) ? "DROP" : "PASS";
}

function check(outcome: Outcome, seen: ReturnType<typeof met>, what: string): void {
  if (outcome.kind === "verdict" || typeof seen === "string") {
    assert.equal(seen, outcome.kind === "verdict" ? outcome.verdict : `to ${outcome.to.join(", ")}`, what);
    return;
  }
  assert.deepEqual([...seen.keys()].sort(), [...outcome.to].sort(), what);
  for (const [to, masqueraded] of seen) {
    const expected: boolean | "any" | undefined = outcome.masq[to];
    if (expected !== undefined && expected !== "any") assert.equal(masqueraded, expected, `${what}: ${to}`);
  }
}

async function play(it: ConformanceCase): Promise<number> {
  let state = initialState(it);
  let flows = 0;
  for (const round of it.rounds) {
    for (const one of round.changes) state = changed(state, one);
    const world = await worldOf(state, it.environment);
    const nodeAddresses = [...it.environment.node.ips, ...it.environment.node.extraLocalIPs];
    for (const flow of round.flows) {
      const src = ip(flow.src ?? it.environment.senders[flow.from] ?? "");
      const outcome = expectedOf(flow, nodeAddresses, it.environment.config);
      check(outcome, met(world, flow, src), flowText(flow, src.text));
      flows += 1;
    }
  }
  return flows;
}

const cases = CASES.filter((path) => existsSync(path)).flatMap((path) => readCases([path]));
for (const read of cases) {
  if (!read.ok) continue;
  if (NOT_THE_IMAGES.has(read.id) || read.case.rounds.every(({ flows }) => flows.length === 0)) continue;
  test(`the image answers case ${read.id} as it says: ${read.title}`, async () => {
    assert.ok((await play(read.case)) > 0);
  });
}

test("the cases are told from others: one with a wrong expectation fails", async () => {
  const flow = { from: "ext", dst: "172.30.0.41", port: 80, proto: "TCP" as const };
  const wrong: Outcome = { kind: "verdict", verdict: "PASS" };
  const it: ConformanceCase = {
    id: "X",
    title: "",
    file: "",
    environment: {
      others: [],
      listening: [],
      node: { name: "n", zone: "", ips: ["192.0.2.1"], extraLocalIPs: [], labels: {}, taints: [] },
      config: {
        mode: "iptables",
        detectLocalMode: "ClusterCIDR",
        clusterCIDR: "",
        podCIDRs: [],
        bridgeInterface: "",
        interfaceNamePrefix: "",
        masqueradeAll: false,
        nodePortAddresses: [],
        localhostNodePorts: true,
        externalIPs: true,
        socketLB: undefined,
      },
      serviceCIDR: ["172.30.0.0/16"],
      senders: { ext: "203.0.113.2" },
    },
    services: [],
    slices: [],
    rounds: [{ changes: [], flows: [{ ...flow, outcome: wrong }], http: [] }],
    story: { steps: [], expect: [], alsoCheck: [] },
  };
  await assert.rejects(play(it), assert.AssertionError);
});
