// SPDX-License-Identifier: Apache-2.0
/** The one typed result of kube-proxy's file, kube-proxy's flags and our own settings. */
import type { IpAddress } from "../net/ip.js";
import type { HostPort } from "./host-port.js";
import type { KubeProxyConfiguration, PortolanConfiguration, ProxyMode } from "./kube-proxy-configuration.js";
import type { SettingProblem } from "./problem.js";
import type { ProxyOptions } from "./proxy-options.js";

/** What the agent is asked to do. All but "run" end by themselves. */
export type Action = "run" | "write-config" | "cleanup" | "init-only";

/** How the API server is reached (12, clientConnection). Both null: by the service account of the pod. */
export interface ApiServerSettings {
  readonly kubeconfig: string | null;
  readonly master: string | null;
}

/** Frozen, as are its parts. Durations are milliseconds. */
export interface ProxySettings {
  readonly action: Action;
  /** --config. Its change ends the agent (12.3). */
  readonly configFile: string | null;
  /** --write-config-to. */
  readonly writeConfigTo: string | null;
  readonly nodeName: string;
  /** What was asked for: an answer for /proxyMode (11.2), and whose sync periods count. */
  readonly mode: ProxyMode;
  /** Of the mode. A failed write is tried again after it (1.11); twice this is what makes unhealthy (10.2). */
  readonly syncPeriod: number;
  /** How often what others may have changed is looked at and repaired: auditInterval, or else syncPeriod (1.18); 1 s to a day. */
  readonly auditPeriod: number;
  /** Null: off. */
  readonly healthz: HostPort | null;
  /** Null: off. */
  readonly metrics: HostPort | null;
  /** bindAddress, unless it is a wildcard: the primary node IP, whose family is the primary one (13.2). */
  readonly nodeIp: IpAddress | null;
  readonly api: ApiServerSettings;
  /** Gate MultiCIDRServiceAllocator (1.6). */
  readonly watchServiceCIDRs: boolean;
  readonly logLevel: "debug" | "info" | "warn" | "error";
  /** What a compile and the kernel programs take. */
  readonly proxy: ProxyOptions;
  readonly portolan: PortolanConfiguration;
  /** What kube-proxy would show as its effective configuration; bindAddressHardFail, oomScoreAdj and conntrack are only here. */
  readonly kubeProxy: KubeProxyConfiguration;
  readonly warnings: readonly SettingProblem[];
}
