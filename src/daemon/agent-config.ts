// SPDX-License-Identifier: Apache-2.0
import type { MapName } from "../abi/maps.gen.js";
import type { ProxyOptions } from "../config/proxy-options.js";
import type { ProxySettings } from "../config/proxy-settings.js";
import type { InterfaceOptions } from "../dataplane/interfaces.js";
import type { XdpSetting } from "../dataplane/xdp.js";
import type { HookMode } from "../native/hooks.js";
import type { ForwardingSetting, KernelChoices, SocketLb } from "./kernel-options.js";
import type { PortRange } from "./snat-ports.js";

/** All that an agent is told when it starts. */
export interface AgentConfig extends KernelChoices {
  /** Directories and files of manifests; "-" is standard input, read once. None: an API server is followed. */
  readonly manifests: readonly string[];
  /**
   * Everything that kube-proxy's flags and file and our own settings say. Without it no server is opened and nothing of the
   * host is set up.
   */
  readonly settings?: ProxySettings;
  /** The text of `settings.configFile` as it was parsed: its watch compares (12.3). */
  readonly configFileText?: string | null;
  /** For /flagz: what was given on the command line, by name with dashes. */
  readonly flags?: Readonly<Record<string, string>>;
  readonly nodeName: string;
  readonly bpfRoot: string;
  readonly interfaces: InterfaceOptions;
  readonly attach: HookMode;
  readonly xdp: XdpSetting;
  readonly snatRanges: readonly PortRange[];
  /** max_entries where it differs from the default. */
  readonly maxEntries: Readonly<Partial<Record<MapName, number>>>;
  readonly auditSeconds: number;
  /** kube-proxy's options. */
  readonly proxy: ProxyOptions;
  readonly socketLb: SocketLb;
  readonly forwarding: ForwardingSetting;
  /** The cgroup v2 directory whose sockets are served; null: there is none. */
  readonly cgroupRoot: string | null;
  /** Rules in the host's firewall let through what is translated (8.11) and health checks (6.27). */
  readonly forwardRules: boolean;
}
