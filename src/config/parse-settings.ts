// SPDX-License-Identifier: Apache-2.0
/** From texts to settings. Pure: the host's name and the file's text come in as values. */
import { parseCidr } from "../net/cidr.js";
import { parseIp } from "../net/ip.js";
import { SERVICE_CIDR_GATE } from "./feature-gates.js";
import { type GivenFlags, readFlags } from "./flag-values.js";
import { parseHostPort, withPort } from "./host-port.js";
import type { KubeProxyConfiguration, PortolanConfiguration } from "./kube-proxy-configuration.js";
import { KUBE_PROXY_FIELDS, KUBE_PROXY_FLAGS } from "./kube-proxy-settings.js";
import { LEAST_AUDIT, MOST_AUDIT, PORTOLAN_SETTINGS } from "./portolan-settings.js";
import type { SettingProblem } from "./problem.js";
import { type ProxyOptions, parseProxyOptions } from "./proxy-options.js";
import type { Action, ProxySettings } from "./proxy-settings.js";
import type { ReadDocument } from "./read-document.js";
import { type ReadFile, readConfigFile } from "./read-file.js";
import { flagName, isZero, sameValue, type Value } from "./setting.js";
import { advise, bounds, type Complain, oneOf, validate } from "./validate.js";
import { defaultsOf, treeOf, type Values, withDefaults } from "./value-tree.js";

export interface SettingsInput {
  /** By flag, without dashes: kube-proxy's and ours. */
  readonly flags: GivenFlags;
  /** What --config names; null when it is not given. */
  readonly file: { readonly path: string; readonly text: string } | null;
  /** The host's name. */
  readonly hostname: string;
}

export interface ParsedSettings {
  /** Null when there is an error. */
  readonly settings: ProxySettings | null;
  /** Errors and warnings. */
  readonly problems: readonly SettingProblem[];
}

/** kube-proxy's ports of its two servers. */
const HEALTHZ_PORT = 10_256;
const METRICS_PORT = 10_249;
/** From this verbosity on kube-proxy tells what it does, not only what happens. */
const DEBUG_VERBOSITY = 4;
const IPVS_REPLACED =
  "ipvs: the eBPF programs are used instead of IPVS, as in every mode; each backend is chosen with the same chance";

/** Never throws: what is wrong is in `problems`, each with the field or flag that it is about. */
export function parseSettings(input: SettingsInput): ParsedSettings {
  return new SettingsParser(input).parse();
}

class SettingsParser {
  readonly #input: SettingsInput;
  readonly #file: ReadFile | null;
  readonly #problems: SettingProblem[];
  /** Values of kube-proxy's flags that were given. */
  readonly #flags: ReadonlyMap<string, Value>;
  /** Fields that a flag has set: errors name what was typed. */
  readonly #byFlag = new Map<string, string>();

  constructor(input: SettingsInput) {
    this.#input = input;
    this.#file = input.file === null ? null : readConfigFile(input.file.text);
    this.#problems = [...(this.#file?.problems ?? [])];
    this.#flags = readFlags(KUBE_PROXY_FLAGS, input.flags, this.#problems);
  }

  parse(): ParsedSettings {
    const values = this.#kubeProxyValues();
    const kubeProxy = treeOf(values) as unknown as KubeProxyConfiguration;
    validate(kubeProxy, this.#complainer("error", "invalid", this.#file?.kubeProxy));
    const own = this.#portolanValues();
    const portolan = treeOf(own) as unknown as PortolanConfiguration;
    if (this.#problems.some(({ severity }) => severity === "error")) {
      return { settings: null, problems: this.#problems };
    }
    this.#warn(values, kubeProxy);
    const settings = this.#settings(kubeProxy, portolan);
    return { settings, problems: this.#problems };
  }

  #kubeProxyValues(): Values {
    const file = this.#file?.kubeProxy;
    const values =
      file === undefined ? defaultsOf(KUBE_PROXY_FIELDS) : withDefaults(KUBE_PROXY_FIELDS, file.values);
    // 12.1: the file wins, but over logging.
    for (const { flag, field, logging } of KUBE_PROXY_FLAGS) {
      if (field === null || field === "hostnameOverride" || (file !== undefined && logging !== true))
        continue;
      const value = this.#flags.get(flag);
      if (value === undefined) continue;
      const before = values.get(field);
      const joined = field === "logging.vmodule" && Array.isArray(before) && Array.isArray(value);
      this.#set(values, field, flag, joined ? [...value, ...before] : value);
    }
    if (file === undefined) this.#shareFlagsOfModes(values);
    this.#setServers(values);
    this.#setHostname(values);
    setPlatformDefaults(values);
    return values;
  }

  #set(values: Values, field: string, flag: string, value: Value): void {
    values.set(field, value);
    this.#byFlag.set(field, flag);
  }

  /** 12.10, and --masquerade-all: kube-proxy has one value for all modes, and the file one for each. */
  #shareFlagsOfModes(values: Values): void {
    if (values.get("mode") !== "nftables") return;
    for (const [field, flag] of [
      ["syncPeriod", "iptables-sync-period"],
      ["minSyncPeriod", "iptables-min-sync-period"],
      ["masqueradeAll", "masquerade-all"],
    ] as const) {
      const value = this.#flags.get(flag);
      if (value !== undefined) this.#set(values, `nftables.${field}`, flag, value);
    }
  }

  #setServers(values: Values): void {
    const six = parseIp(String(values.get("bindAddress")))?.family === 6;
    for (const [field, port, portFlag, any] of [
      ["healthzBindAddress", HEALTHZ_PORT, "healthz-port", six ? "::" : "0.0.0.0"],
      ["metricsBindAddress", METRICS_PORT, "metrics-port", six ? "::1" : "127.0.0.1"],
    ] as const) {
      const given = String(values.get(field));
      const off = this.#byFlag.has(field) && given === "";
      const text = given === "" ? withPort(any, port) : given;
      const flagPort = this.#file === null ? this.#flags.get(portFlag) : undefined;
      if (flagPort === undefined) values.set(field, off ? "" : withPort(text, port));
      else if (flagPort === 0 || off) values.set(field, "");
      else this.#setDeprecatedPort(values, { field, text, portFlag, port: Number(flagPort) });
    }
  }

  #setDeprecatedPort(
    values: Values,
    { field, text, portFlag, port }: { field: string; text: string; portFlag: string; port: number },
  ): void {
    const full = withPort(text, port);
    if (parseHostPort(full)?.port !== port) {
      const message = `no effect here, as in kube-proxy, because the address has a port: ${full}`;
      this.#problem("warning", "no_effect", flagName(portFlag), message);
    }
    values.set(field, full);
  }

  /** 12.8: the flag wins over the file; an empty one says nothing. */
  #setHostname(values: Values): void {
    const flag = this.#flags.get("hostname-override");
    const byFlag = typeof flag === "string" && flag !== "";
    if (byFlag) this.#set(values, "hostnameOverride", "hostname-override", flag);
    const given = String(values.get("hostnameOverride"));
    const name = given.trim().toLowerCase();
    if (given !== "" && name === "") {
      const complain = this.#complainer("error", "invalid", this.#file?.kubeProxy);
      complain("hostnameOverride", "is nothing but white space");
    }
    values.set("hostnameOverride", name);
  }

  /** Ours: a flag wins over the file. */
  #portolanValues(): Values {
    const document = this.#file?.portolan;
    const values = withDefaults(PORTOLAN_SETTINGS, document?.values ?? new Map());
    const flags = readFlags(PORTOLAN_SETTINGS, this.#portolanFlags(), this.#problems);
    const complain = this.#complainer("error", "invalid", document);
    for (const { field, flag, fallback, range, choices } of PORTOLAN_SETTINGS) {
      const said = flags.get(flag);
      if (said !== undefined) this.#set(values, field, flag, said);
      const value = values.get(field);
      if (said === undefined && sameValue(value, fallback)) continue;
      if (range !== undefined && typeof value === "number")
        bounds(field, value, range[0], range[1], complain);
      if (choices !== undefined && typeof value === "string") oneOf(field, value, choices, complain);
    }
    checkOwn(values, flags, complain);
    return values;
  }

  /** `--audit-interval 60` is in seconds. */
  #portolanFlags(): GivenFlags {
    const { flags } = this.#input;
    const seconds = flags["audit-interval"];
    return typeof seconds === "string" && /^\d+$/.test(seconds)
      ? { ...flags, "audit-interval": `${seconds}s` }
      : flags;
  }

  #warn(values: Values, kubeProxy: KubeProxyConfiguration): void {
    const document = this.#file?.kubeProxy;
    if (kubeProxy.mode === "ipvs") {
      const replaced = this.#complainer("warning", "replaced", document);
      replaced("mode", IPVS_REPLACED);
    }
    const noEffect = this.#complainer("warning", "no_effect", document);
    for (const { field, idle, fallback } of KUBE_PROXY_FIELDS) {
      const same = sameValue(values.get(field), fallback);
      if (idle !== undefined && !same) noEffect(field, `no effect here because ${idle}`);
    }
    for (const gate of Object.keys(kubeProxy.featureGates)) {
      if (gate === SERVICE_CIDR_GATE) continue;
      noEffect("featureGates", `${gate}: no effect here because only ${SERVICE_CIDR_GATE} is looked at`);
    }
    advise(kubeProxy, this.#complainer("warning", "advice", document));
  }

  #settings(kubeProxy: KubeProxyConfiguration, portolan: PortolanConfiguration): ProxySettings {
    const text = (flag: string): string | null => String(this.#flags.get(flag) ?? "") || null;
    const address = parseIp(kubeProxy.bindAddress);
    const { syncPeriod } = kubeProxy[kubeProxy.mode];
    const wildcard = address === null || address.bytes.every((byte) => byte === 0);
    const verbose = kubeProxy.logging.verbosity >= DEBUG_VERBOSITY;
    return Object.freeze({
      action: this.#action(),
      configFile: this.#input.file?.path ?? null,
      writeConfigTo: text("write-config-to"),
      nodeName: kubeProxy.hostnameOverride || this.#input.hostname.trim().toLowerCase(),
      mode: kubeProxy.mode,
      syncPeriod,
      auditPeriod: portolan.auditInterval || Math.min(Math.max(syncPeriod, LEAST_AUDIT), MOST_AUDIT),
      healthz: parseHostPort(kubeProxy.healthzBindAddress),
      metrics: parseHostPort(kubeProxy.metricsBindAddress),
      nodeIp: wildcard ? null : address,
      api: Object.freeze({
        kubeconfig: kubeProxy.clientConnection.kubeconfig || null,
        master: text("master"),
      }),
      watchServiceCIDRs: kubeProxy.featureGates[SERVICE_CIDR_GATE] ?? true,
      logLevel: portolan.logLevel || (verbose ? "debug" : "info"),
      proxy: proxyOptions(kubeProxy, portolan),
      portolan,
      kubeProxy,
      warnings: Object.freeze(this.#problems.filter(({ severity }) => severity === "warning")),
    });
  }

  /** As in kube-proxy: writing comes before cleaning, and that before preparing. */
  #action(): Action {
    if (!isZero(this.#flags.get("write-config-to"))) return "write-config";
    if (this.#flags.get("cleanup") === true) return "cleanup";
    return this.#flags.get("init-only") === true ? "init-only" : "run";
  }

  #complainer(
    severity: SettingProblem["severity"],
    code: SettingProblem["code"],
    document: ReadDocument | undefined,
  ): Complain {
    return (field, message) => {
      const flag = this.#byFlag.get(field) ?? (document === undefined ? flagOf(field) : null);
      const line = flag === null ? (document?.lines.get(field) ?? null) : null;
      this.#problem(severity, code, flag === null ? field : flagName(flag), message, line);
    };
  }

  #problem(
    severity: SettingProblem["severity"],
    code: SettingProblem["code"],
    name: string,
    message: string,
    line: number | null = null,
  ): void {
    this.#problems.push({ severity, code, name, line, message });
  }
}

/** The flag that says the same as a field; nftables has those of iptables (12.10). */
function flagOf(path: string): string | null {
  const field = path.replace(/^nftables\.(?=syncPeriod|minSyncPeriod|masqueradeAll)/, "iptables.");
  return (
    [...KUBE_PROXY_FIELDS, ...PORTOLAN_SETTINGS].find((setting) => setting.field === field)?.flag ?? null
  );
}

/** What kube-proxy fills in on Linux. */
function setPlatformDefaults(values: Values): void {
  if (values.get("mode") === "") values.set("mode", "iptables");
  if (values.get("detectLocalMode") === "") values.set("detectLocalMode", "ClusterCIDR");
  const unset = isZero(values.get("nodePortAddresses"));
  if (values.get("mode") === "nftables" && unset) values.set("nodePortAddresses", ["primary"]);
}

/** What a range or a choice does not say. */
function checkOwn(values: Values, flags: ReadonlyMap<string, Value>, complain: Complain): void {
  for (const text of values.get("serviceCIDRs") as readonly string[]) {
    if (parseCidr(text) === null) complain("serviceCIDRs", `${JSON.stringify(text)} is no address range`);
  }
  for (const [field, flag] of [
    ["devices", "devices"],
    ["podInterfaces", "pod-interfaces"],
  ] as const) {
    if (flags.has(flag) && isZero(values.get(field))) complain(field, "must name at least one");
  }
  if (Number(values.get("auditInterval")) % 1000 !== 0) complain("auditInterval", "must be whole seconds");
}

/** After validation, so that nothing here throws. */
function proxyOptions(config: KubeProxyConfiguration, portolan: PortolanConfiguration): ProxyOptions {
  const { mode, iptables, nftables, detectLocal } = config;
  return parseProxyOptions({
    clusterCidr: config.clusterCIDR,
    detectLocalMode: config.detectLocalMode,
    podBridgeInterface: detectLocal.bridgeInterface,
    podInterfaceNamePrefix: detectLocal.interfaceNamePrefix,
    masqueradeAll: mode === "nftables" ? nftables.masqueradeAll : iptables.masqueradeAll,
    nodeportAddresses: config.nodePortAddresses.join(","),
    proxyMode: mode === "nftables" ? "nftables" : "iptables",
    // 6.5: never with IPVS.
    iptablesLocalhostNodeports: mode !== "ipvs" && iptables.localhostNodePorts,
    serviceCidr: portolan.serviceCIDRs.join(","),
    externalIps: portolan.externalIPs,
  });
}
