// SPDX-License-Identifier: Apache-2.0
/** The cases' form, read and checked: what a case asks for, in this runner's words. */

export type ProtocolName = "TCP" | "UDP" | "SCTP";
export type VerdictName = "REJECT" | "DROP" | "PASS";
export const PROTOCOLS: readonly ProtocolName[] = ["TCP", "UDP", "SCTP"];
export const VERDICTS: readonly VerdictName[] = ["REJECT", "DROP", "PASS"];

/** Conditions of an endpoint, by the form's letters. */
export type ConditionName = "R" | "nil" | "NR" | "S" | "ST" | "T";

export interface PortForm {
  readonly name?: string | null;
  readonly port: number;
  readonly proto: ProtocolName;
  readonly nodePort?: number;
  readonly targetPort?: number | string;
  readonly appProtocol?: string;
}

export interface IngressForm {
  readonly ip?: string;
  readonly hostname?: string;
  readonly ipMode?: string;
}

/** What is said of a Service; what is absent is not said. */
export interface ServiceForm {
  readonly name: string;
  readonly ns?: string;
  readonly type?: string;
  readonly externalName?: string;
  readonly clusterIP?: string;
  readonly clusterIPs?: readonly string[];
  readonly families?: readonly string[];
  readonly ipFamilyPolicy?: string;
  readonly eTP?: string;
  readonly iTP?: string;
  readonly externalIPs?: readonly string[];
  readonly lb?: readonly IngressForm[];
  readonly lbIP?: string;
  readonly lbClass?: string;
  readonly ranges?: readonly string[];
  /** Seconds; "default": ClientIP without a time; null: None. */
  readonly affinity?: number | "default" | null;
  readonly hcPort?: number;
  readonly labels?: Readonly<Record<string, string>>;
  readonly annotations?: Readonly<Record<string, string>>;
  readonly selector?: Readonly<Record<string, string>>;
  readonly created?: string;
  readonly publishNotReady?: boolean;
  readonly allocateNodePorts?: boolean;
  readonly trafficDistribution?: string;
  readonly ports?: readonly PortForm[];
}

export type ServiceChange = Partial<Omit<ServiceForm, "name" | "ns">>;

export interface EndpointForm {
  readonly addresses: readonly string[];
  readonly node?: string;
  readonly condition: ConditionName;
  readonly zones?: readonly string[];
  readonly nodes?: readonly string[];
}

export interface SlicePortForm {
  readonly name: string | null;
  readonly port: number | null;
  readonly proto: ProtocolName | null;
}

export interface SliceForm {
  readonly name?: string;
  readonly ns?: string;
  /** null: no label at all (1.13). */
  readonly serviceName?: string | null;
  readonly addressType: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly ports: readonly SlicePortForm[];
  readonly endpoints: readonly EndpointForm[];
}

/** What becomes of the packets of a flow. */
export type Outcome =
  | {
      readonly kind: "to";
      /** Exactly these, as `address:port` in canonical text. */
      readonly to: readonly string[];
      /** Per destination: masqueraded, not, or either. */
      readonly masq: Readonly<Record<string, boolean | "any">>;
      readonly uniform: boolean;
    }
  | { readonly kind: "verdict"; readonly verdict: VerdictName };

export interface FlowForm {
  readonly from: string;
  readonly src?: string;
  readonly ingressIf?: string;
  readonly proto: ProtocolName;
  /** Canonical address. */
  readonly dst: string;
  readonly port: number;
  /** Client port, when it matters. */
  readonly sport?: number;
  readonly outcome: Outcome | undefined;
  readonly modes?: Readonly<Record<"iptables" | "nftables", Outcome>>;
}

export interface HttpForm {
  readonly from?: string;
  readonly addr?: string;
  readonly port: number;
  readonly path: string;
  readonly method: string;
  readonly refused: boolean;
  readonly status?: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly json?: unknown;
  readonly body?: string;
  readonly absentKeys: readonly string[];
}

/** One change to the objects; its parts are done in the order of this union. */
export type ChangeForm =
  | { readonly kind: "service"; readonly name?: string; readonly set: ServiceChange }
  | {
      readonly kind: "label";
      readonly name?: string;
      readonly labels: Readonly<Record<string, string | null>>;
    }
  | { readonly kind: "addService"; readonly service: ServiceForm }
  | { readonly kind: "deleteService"; readonly name: string }
  | { readonly kind: "addEndpoint"; readonly slice?: string; readonly endpoint: EndpointForm }
  | { readonly kind: "removeEndpoint"; readonly slice?: string; readonly address: string }
  | {
      readonly kind: "setEndpoint";
      readonly slice?: string;
      readonly address: string;
      readonly endpoint: EndpointForm;
    }
  | {
      readonly kind: "replaceEndpoints";
      readonly slice?: string;
      readonly endpoints: readonly EndpointForm[];
    }
  | { readonly kind: "slicePorts"; readonly slice?: string; readonly ports: readonly SlicePortForm[] }
  | {
      readonly kind: "sliceLabels";
      readonly slice?: string;
      readonly labels: Readonly<Record<string, string | null>>;
    }
  | { readonly kind: "addSlice"; readonly slice: SliceForm }
  | { readonly kind: "deleteSlice"; readonly name: string }
  | { readonly kind: "node"; readonly set: Partial<NodeForm> };

export interface TaintForm {
  readonly key: string;
  readonly value?: string;
  readonly effect: string;
}

export interface NodeForm {
  readonly name: string;
  readonly zone: string;
  readonly ips: readonly string[];
  readonly extraLocalIPs: readonly string[];
  readonly labels: Readonly<Record<string, string>>;
  readonly taints: readonly TaintForm[];
}

export interface ConfigForm {
  readonly mode: "iptables" | "nftables";
  readonly detectLocalMode: "ClusterCIDR" | "NodeCIDR" | "BridgeInterface" | "InterfaceNamePrefix";
  readonly clusterCIDR: string;
  readonly podCIDRs: readonly string[];
  readonly bridgeInterface: string;
  readonly interfaceNamePrefix: string;
  readonly masqueradeAll: boolean;
  readonly nodePortAddresses: readonly string[];
  readonly localhostNodePorts: boolean;
  readonly externalIPs: boolean;
  readonly socketLB: "full" | "host-only" | "off" | undefined;
}

/** The ground a case starts from: the fixture with the case's `env` laid over it. */
export interface Environment {
  readonly node: NodeForm;
  readonly others: readonly { readonly name: string; readonly zone?: string }[];
  readonly config: ConfigForm;
  readonly serviceCIDR: readonly string[];
  readonly senders: Readonly<Record<string, string>>;
  /** Ports that processes of the node listen on before the agent starts. */
  readonly listening: readonly {
    readonly port: number;
    readonly proto: ProtocolName;
    readonly addr?: string;
  }[];
}

/** Flows and requests, after a change (or, in the first round, after none). */
export interface Round {
  readonly changes: readonly ChangeForm[];
  readonly flows: readonly FlowForm[];
  readonly http: readonly HttpForm[];
}

export interface Story {
  readonly steps: readonly string[];
  readonly expect: readonly string[];
  readonly alsoCheck: readonly string[];
}

export interface ConformanceCase {
  readonly id: string;
  readonly title: string;
  readonly file: string;
  readonly environment: Environment;
  readonly services: readonly ServiceForm[];
  readonly slices: readonly SliceForm[];
  readonly rounds: readonly Round[];
  readonly story: Story;
}

/** Whether there is nothing here that a runner can do by itself: a test elsewhere tells the story. */
export function isStory(it: ConformanceCase): boolean {
  return (
    it.story.steps.length > 0 || it.rounds.every((round) => round.flows.length + round.http.length === 0)
  );
}
