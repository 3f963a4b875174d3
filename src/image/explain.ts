// SPDX-License-Identifier: Apache-2.0
/**
 * Why a Service has the backends that it has on one node: every endpoint of every slice, and every frontend, with the
 * numbers of the rules. The reasons are those by which a compile decides (model/verdicts.ts, model/selection.ts), and what
 * each frontend offers is what a compile made of the same snapshot. Pure.
 */
import type { EndpointListener, PortEndpoint, SliceSkip } from "../model/endpoints.js";
import { endpointsOfPort, inSliceOrder } from "../model/endpoints.js";
import type { Choice, Selection } from "../model/selection.js";
import { externalChoice, internalChoice, selectEndpoints, shortCircuitChoice } from "../model/selection.js";
import type { HintCount, TopologyMode } from "../model/topology.js";
import { countHints } from "../model/topology.js";
import type { TrafficPolicy } from "../model/traffic-policy.js";
import { trafficPolicy } from "../model/traffic-policy.js";
import type {
  Endpoint,
  EndpointSlice,
  HostFacts,
  Problem,
  ProxyConfig,
  Service,
  ServicePortSpec,
  Snapshot,
} from "../model/types.js";
import type { SetRule, Verdict, VerdictCode } from "../model/verdicts.js";
import { clusterRule, clusterVerdict, localRule, localVerdict } from "../model/verdicts.js";
import type { Family, IpAddress } from "../net/ip.js";
import { frontendText } from "./compile.js";
import type { DescribedFrontend } from "./describe.js";
import { describeFrontend } from "./describe.js";
import { healthChecks } from "./health-checks.js";
import { nameOf, servedClusterIPs, servedPorts } from "./served.js";
import { asConfigured, compileServicePort } from "./service-port.js";
import type { FrontendImage, Image, ServicePortImage } from "./types.js";

/** A verdict on one of the two sets; "not-needed": no frontend of the port asks for that set (4.1, 4.2). */
export interface SetReason {
  readonly used: boolean;
  readonly code: VerdictCode | "not-needed";
  readonly rules: readonly string[];
}

export interface ExplainedEndpoint {
  readonly slice: string;
  readonly address: string;
  readonly port: number;
  readonly nodeName: string | null;
  readonly local: boolean;
  readonly ready: boolean;
  readonly serving: boolean;
  readonly terminating: boolean;
  readonly zoneHints: readonly string[];
  readonly nodeHints: readonly string[];
  /** Another entry of the same address and port counts (3.4): then there is nothing to say of the sets. */
  readonly duplicate: boolean;
  readonly cluster: SetReason | null;
  readonly localSet: SetReason | null;
  /** New flows of some sender to some frontend are given it. */
  readonly used: boolean;
}

export interface SkippedSlice {
  readonly slice: string;
  readonly endpoints: number;
  readonly why: SliceSkip;
  readonly rules: readonly string[];
}

export interface ExplainedChoice {
  readonly set: "cluster" | "local";
  /** Addresses with ports; empty: see whenEmpty. */
  readonly backends: readonly string[];
  readonly whenEmpty: "reject" | "drop";
  readonly rules: readonly string[];
}

export interface ExplainedFrontend extends Omit<DescribedFrontend, "internal" | "external"> {
  /** For this node's pods and its own processes; and for everybody else. */
  readonly internal: ExplainedChoice;
  readonly external: ExplainedChoice;
  readonly masqueradeRules: readonly string[];
  readonly sourceRangeRules: readonly string[];
  /** Why it is not in the maps (2.22, 6.10); null: it is. */
  readonly leftOut: string | null;
}

export interface ExplainedFamily {
  readonly family: Family;
  readonly clusterIP: string;
  readonly policy: TrafficPolicy;
  readonly hints: Readonly<HintCount>;
  readonly topology: TopologyMode;
  /** Nobody is Ready, so that those which serve while they terminate are used (4.6, 4.7). */
  readonly clusterFallback: boolean;
  readonly localFallback: boolean;
  readonly endpoints: readonly ExplainedEndpoint[];
  readonly skippedSlices: readonly SkippedSlice[];
  readonly frontends: readonly ExplainedFrontend[];
}

export interface ExplainedPort {
  readonly key: string;
  readonly portName: string;
  readonly protocol: string;
  readonly port: number;
  /** 0: none. */
  readonly nodePort: number;
  readonly families: readonly ExplainedFamily[];
}

export interface ExplainedHealthCheck {
  readonly port: number;
  /** Null: nothing listens in that family. */
  readonly localEndpoints: Readonly<Record<Family, number | null>>;
  readonly rules: readonly string[];
}

export interface ServiceExplanation {
  readonly namespace: string;
  readonly name: string;
  readonly type: string;
  readonly node: { readonly name: string; readonly zone: string };
  readonly clusterIPs: readonly string[];
  readonly externalTrafficPolicy: "Cluster" | "Local";
  readonly internalTrafficPolicy: "Cluster" | "Local";
  readonly affinitySeconds: number;
  /** 2.1, 2.3: nothing of it is served; null: something is. */
  readonly notServed: { readonly rules: readonly string[]; readonly message: string } | null;
  readonly healthCheck: ExplainedHealthCheck | null;
  readonly ports: readonly ExplainedPort[];
  /** Those of the compile that name it. */
  readonly problems: readonly Problem[];
}

/** What an explanation is made from: `image` is a compile of the other three. */
export interface ExplainInput {
  readonly snapshot: Snapshot;
  readonly config: ProxyConfig;
  readonly host: HostFacts;
  readonly image: Image;
}

/** Null: the snapshot has no Service of this "namespace/name". */
export function explainService(key: string, input: ExplainInput): ServiceExplanation | null {
  const { snapshot, image } = input;
  const service = snapshot.services.get(key);
  if (service === undefined) return null;
  const clusterIPs = servedClusterIPs(service, snapshot.node, []);
  const specs = clusterIPs.length === 0 ? [] : servedPorts(service, []);
  const problems = image.problems.filter(({ object, message }) => names(`${object} ${message}`, key));
  return {
    namespace: service.namespace,
    name: service.name,
    type: service.type,
    node: { name: snapshot.node.name, zone: snapshot.node.zone },
    clusterIPs: service.clusterIPs.map(({ text }) => text),
    externalTrafficPolicy: service.externalTrafficPolicyLocal ? "Local" : "Cluster",
    internalTrafficPolicy: service.internalTrafficPolicyLocal ? "Local" : "Cluster",
    affinitySeconds: service.sessionAffinitySeconds,
    notServed: notServed(service, clusterIPs),
    healthCheck: healthCheckOf(service, snapshot),
    ports: specs.map((spec) => explainPort(service, spec, clusterIPs, input, problems)),
    problems,
  };
}

function names(text: string, key: string): boolean {
  return text.split(/[^a-z0-9./-]+/).includes(key);
}

function notServed(service: Service, clusterIPs: readonly IpAddress[]): ServiceExplanation["notServed"] {
  if (service.clusterIPs.length === 0) {
    const kind = service.type === "ExternalName" ? "it is an ExternalName" : "it has no ClusterIP";
    return { rules: ["2.1", "2.3"], message: `${kind}, so nothing of it is served` };
  }
  if (clusterIPs.length > 0) return null;
  return { rules: ["2.3"], message: "its ClusterIPs are addresses of this node, so nothing of it is served" };
}

function healthCheckOf(service: Service, snapshot: Snapshot): ExplainedHealthCheck | null {
  const key = nameOf(service);
  const [check] = healthChecks({ ...snapshot, services: new Map([[key, service]]) });
  if (check === undefined) return null;
  return { port: check.port, localEndpoints: check.localEndpoints, rules: ["2.18", "6.23", "6.24"] };
}

function explainPort(
  service: Service,
  spec: ServicePortSpec,
  clusterIPs: readonly IpAddress[],
  input: ExplainInput,
  problems: readonly Problem[],
): ExplainedPort {
  const { snapshot, config, image } = input;
  const slices = inSliceOrder(snapshot.slices.get(nameOf(service)) ?? []);
  const alone = compileServicePort(service, spec, clusterIPs, slices, snapshot.node, config);
  const compiled = image.servicePorts.get(alone.key) ?? null;
  const { name: portName, protocol, port, nodePort } = spec;
  const families = clusterIPs.map((clusterIP) =>
    new FamilyExplainer(asConfigured(service, config), spec, clusterIP, slices, input).explain(
      alone,
      compiled,
      problems,
    ),
  );
  return { key: alone.key, portName, protocol, port, nodePort, families };
}

const SKIP_RULES: Readonly<Record<SliceSkip, readonly string[]>> = {
  "other-family": ["1.14"],
  "no-such-port": ["2.6"],
  "no-number": ["2.7"],
};
const NOT_NEEDED: Readonly<Record<"cluster" | "local", SetReason>> = {
  cluster: { used: false, code: "not-needed", rules: ["4.1"] },
  local: { used: false, code: "not-needed", rules: ["4.2"] },
};

interface Entry {
  readonly slice: EndpointSlice;
  readonly index: number;
  readonly port: number;
  /** Null: a duplicate from the start. */
  readonly made: PortEndpoint | null;
}

/** One service port in one family. */
class FamilyExplainer {
  readonly #clusterIP: IpAddress;
  readonly #input: ExplainInput;
  readonly #policy: TrafficPolicy;
  readonly #entries: Entry[] = [];
  readonly #skipped: SkippedSlice[] = [];
  readonly #endpoints: readonly PortEndpoint[];
  readonly #rules: Readonly<Record<"cluster" | "local", SetRule>>;
  readonly #selection: Selection;

  constructor(
    service: Service,
    spec: ServicePortSpec,
    clusterIP: IpAddress,
    slices: readonly EndpointSlice[],
    input: ExplainInput,
  ) {
    this.#clusterIP = clusterIP;
    this.#input = input;
    const { family } = clusterIP;
    this.#policy = trafficPolicy(service, spec, family);
    const { node } = input.snapshot;
    this.#endpoints = endpointsOfPort(slices, family, spec.name, spec.protocol, node.name, this.#listener());
    this.#rules = { cluster: clusterRule(this.#endpoints, node), local: localRule(this.#endpoints) };
    this.#selection = selectEndpoints(this.#endpoints, this.#policy, node);
  }

  #listener(): EndpointListener {
    return {
      skipped: (slice, why) =>
        this.#skipped.push({
          slice: slice.name,
          endpoints: slice.endpoints.length,
          why,
          rules: SKIP_RULES[why],
        }),
      made: (made, slice, index) => this.#entries.push({ slice, index, port: made.port, made }),
      duplicate: (slice, index, port) => this.#entries.push({ slice, index, port, made: null }),
    };
  }

  explain(
    alone: ServicePortImage,
    compiled: ServicePortImage | null,
    problems: readonly Problem[],
  ): ExplainedFamily {
    const { family } = this.#clusterIP;
    const { cluster, local } = this.#rules;
    const frontends = alone.frontends
      .filter(({ address }) => address.family === family)
      .map((frontend) => this.#frontend(alone, compiled, frontend, problems));
    const offered = frontends.filter(({ leftOut }) => leftOut === null);
    return {
      family,
      clusterIP: this.#clusterIP.text,
      policy: this.#policy,
      hints: countHints(this.#endpoints, this.#input.snapshot.node),
      topology: cluster.mode,
      clusterFallback: cluster.fallback,
      localFallback: local.fallback,
      endpoints: this.#explainEndpoints(offered),
      skippedSlices: this.#skipped,
      frontends,
    };
  }

  #explainEndpoints(offered: readonly ExplainedFrontend[]): ExplainedEndpoint[] {
    const { node } = this.#input.snapshot;
    const rules = this.#rules;
    const sets = new Set(offered.flatMap(({ internal, external }) => [internal.set, external.set]));
    const kept = new Set(this.#endpoints);
    const { usesCluster, usesLocal } = this.#policy;
    return this.#entries.map(({ slice, index, port, made }) => {
      const endpoint = slice.endpoints[index] as Endpoint;
      const base = {
        slice: slice.name,
        address: endpoint.address.text,
        port,
        nodeName: endpoint.nodeName,
        local: endpoint.nodeName === node.name,
        ready: endpoint.ready,
        serving: endpoint.serving,
        terminating: endpoint.terminating,
        zoneHints: endpoint.zoneHints,
        nodeHints: endpoint.nodeHints,
      };
      if (made === null || !kept.has(made))
        return { ...base, duplicate: true, cluster: null, localSet: null, used: false };
      const cluster = usesCluster ? reason(clusterVerdict(made, rules.cluster, node)) : NOT_NEEDED.cluster;
      const localSet = usesLocal ? reason(localVerdict(made, rules.local)) : NOT_NEEDED.local;
      const used = (sets.has("cluster") && cluster.used) || (sets.has("local") && localSet.used);
      return { ...base, duplicate: false, cluster, localSet, used };
    });
  }

  #frontend(
    alone: ServicePortImage,
    compiled: ServicePortImage | null,
    frontend: FrontendImage,
    problems: readonly Problem[],
  ): ExplainedFrontend {
    const held = compiled?.frontends.find((other) => sameAddress(other, frontend)) ?? null;
    const { internal, external, ...described } = describeFrontend(
      held === null || compiled === null ? alone : compiled,
      held ?? frontend,
    );
    const [policy, selection] = [this.#policy, this.#selection];
    const own = frontend.kind === "ClusterIP";
    const inside = own ? internalChoice(selection, policy) : shortCircuitChoice(selection);
    const outside = own ? inside : externalChoice(selection, policy);
    const withRules = (choice: typeof internal, { rules }: Choice): ExplainedChoice => ({ ...choice, rules });
    return {
      ...described,
      internal: withRules(internal, inside),
      external: withRules(external, outside),
      masqueradeRules: this.#masqueradeRules(frontend),
      sourceRangeRules: described.sourceRanges === null ? [] : ["2.13", "6.15", "6.16"],
      leftOut: held === null ? leftOut(alone, frontend, problems) : null,
    };
  }

  #masqueradeRules({ kind, masquerade }: FrontendImage): readonly string[] {
    if (kind !== "ClusterIP") return masquerade === "never" ? ["8.5"] : ["8.4"];
    return this.#input.config.masqueradeAll ? ["8.2", "8.8"] : ["8.2"];
  }
}

function reason({ used, code, rules }: Verdict): SetReason {
  return { used, code, rules };
}

function sameAddress(a: FrontendImage, b: FrontendImage): boolean {
  return a.kind === b.kind && a.port === b.port && a.address.text === b.address.text;
}

function leftOut(port: ServicePortImage, frontend: FrontendImage, problems: readonly Problem[]): string {
  const text = frontendText(port, frontend);
  const found = problems.find(({ message }) => message.startsWith(`${text} `));
  return found?.message ?? `${text} is left out`;
}
