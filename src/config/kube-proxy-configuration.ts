// SPDX-License-Identifier: Apache-2.0
/** KubeProxyConfiguration v1alpha1 with its defaults in place. Fields are named as in the file; durations are milliseconds. */
import type { VModule } from "./setting.js";

export type ProxyMode = "iptables" | "nftables" | "ipvs";

export interface ConntrackConfiguration {
  /** Entries; 0: leave nf_conntrack_max alone. */
  readonly maxPerCore: number;
  /** Entries. */
  readonly min: number;
  /** Milliseconds, as the other timeouts; 0: leave it alone. */
  readonly tcpEstablishedTimeout: number;
  readonly tcpCloseWaitTimeout: number;
  readonly tcpBeLiberal: boolean;
  readonly udpTimeout: number;
  readonly udpStreamTimeout: number;
}

interface LogOptions {
  readonly splitStream: boolean;
  readonly infoBufferSize: string;
}

export interface KubeProxyConfiguration {
  readonly featureGates: Readonly<Record<string, boolean>>;
  readonly clientConnection: {
    readonly kubeconfig: string;
    readonly acceptContentTypes: string;
    readonly contentType: string;
    readonly qps: number;
    readonly burst: number;
  };
  readonly logging: {
    readonly format: string;
    readonly flushFrequency: number;
    readonly verbosity: number;
    readonly vmodule: readonly VModule[];
    readonly options: { readonly text: LogOptions; readonly json: LogOptions };
  };
  /** Trimmed, in lower case; "": the host's name. */
  readonly hostnameOverride: string;
  readonly bindAddress: string;
  /** With port; "": off. */
  readonly healthzBindAddress: string;
  /** With port; "": off. */
  readonly metricsBindAddress: string;
  readonly bindAddressHardFail: boolean;
  readonly enableProfiling: boolean;
  readonly showHiddenMetricsForVersion: string;
  readonly mode: ProxyMode;
  readonly iptables: {
    readonly masqueradeBit: number;
    readonly masqueradeAll: boolean;
    readonly localhostNodePorts: boolean;
    readonly syncPeriod: number;
    readonly minSyncPeriod: number;
  };
  readonly ipvs: {
    readonly scheduler: string;
    readonly excludeCIDRs: readonly string[];
    readonly strictARP: boolean;
    readonly tcpTimeout: number;
    readonly tcpFinTimeout: number;
    readonly udpTimeout: number;
    readonly syncPeriod: number;
    readonly minSyncPeriod: number;
  };
  readonly nftables: {
    readonly masqueradeBit: number;
    readonly masqueradeAll: boolean;
    readonly syncPeriod: number;
    readonly minSyncPeriod: number;
  };
  readonly winkernel: {
    readonly networkName: string;
    readonly sourceVip: string;
    readonly enableDSR: boolean;
    readonly rootHnsEndpointName: string;
    readonly forwardHealthCheckVip: boolean;
  };
  readonly detectLocalMode: "ClusterCIDR" | "NodeCIDR" | "BridgeInterface" | "InterfaceNamePrefix";
  readonly detectLocal: { readonly bridgeInterface: string; readonly interfaceNamePrefix: string };
  readonly clusterCIDR: string;
  readonly nodePortAddresses: readonly string[];
  readonly oomScoreAdj: number;
  readonly conntrack: ConntrackConfiguration;
  readonly configSyncPeriod: number;
  readonly portRange: string;
  readonly windowsRunAsService: boolean;
}

/** Our own settings. */
export interface PortolanConfiguration {
  readonly devices: readonly string[];
  readonly podInterfaces: readonly string[];
  readonly attach: "auto" | "tcx" | "clsact";
  readonly xdp: "native" | "generic" | "off" | "auto";
  readonly socketLB: "full" | "host-only" | "off";
  readonly forwarding: "auto" | "stack" | "redirect";
  /** "": where it is mounted. */
  readonly cgroupRoot: string;
  readonly resetRemovedBackends: boolean;
  readonly serviceCIDRs: readonly string[];
  readonly externalIPs: boolean;
  readonly snatPorts: string;
  readonly forwardMarkBit: number;
  readonly forwardRules: boolean;
  /** Milliseconds; 0: the mode's syncPeriod. */
  readonly auditInterval: number;
  /** How many service ports have traffic series of their own in /metrics. */
  readonly topServices: number;
  /** "": as logging.verbosity says. */
  readonly logLevel: "" | "debug" | "info" | "warn" | "error";
  /** Entries; 0: as built. */
  readonly maps: {
    readonly services: number;
    readonly frontends: number;
    readonly backends: number;
    readonly slots: number;
    readonly nat: number;
    readonly events: number;
  };
}
