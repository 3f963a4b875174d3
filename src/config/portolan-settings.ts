// SPDX-License-Identifier: Apache-2.0
/** Our own settings: a PortolanConfiguration, the second document of kube-proxy's file, and flags that win over it. */
import type { Setting } from "./setting.js";

/** Of auditInterval. Milliseconds. */
export const LEAST_AUDIT = 1000;
export const MOST_AUDIT = 86_400_000;

const LARGEST_MAP = 1 << 24;

const size = (name: string, what: string): Setting => ({
  field: `maps.${name}`,
  flag: `max-${name}`,
  placeholder: "<n>",
  kind: "int",
  fallback: 0,
  fallbackText: "as built",
  does: `most ${what} (a changed size needs \`portolan cleanup\` first)`,
  range: [1, LARGEST_MAP],
});

export const PORTOLAN_SETTINGS: readonly (Setting & { readonly field: string; readonly flag: string })[] = [
  {
    field: "devices",
    flag: "devices",
    placeholder: "<names>",
    kind: "list",
    fallback: [],
    fallbackText: "detected",
    does: "interfaces that lead to other hosts, with * and ?",
  },
  {
    field: "podInterfaces",
    flag: "pod-interfaces",
    placeholder: "<names>",
    kind: "list",
    fallback: [],
    fallbackText: "detected",
    does: "the node's ends of pods' interfaces, with * and ?",
  },
  {
    field: "attach",
    flag: "attach",
    placeholder: "<mode>",
    kind: "text",
    fallback: "auto",
    does: "how programs are attached",
    choices: ["auto", "tcx", "clsact"],
  },
  {
    field: "socketLB",
    flag: "socket-lb",
    placeholder: "<mode>",
    kind: "text",
    fallback: "host-only",
    does: "whose sockets are served at connect(2), of this host's own programs (host-only) or of pods too (full, TCP); with off this host's programs reach no Service",
    choices: ["full", "host-only", "off"],
  },
  {
    field: "cgroupRoot",
    flag: "cgroup-root",
    placeholder: "<dir>",
    kind: "text",
    fallback: "",
    fallbackText: "where it is mounted",
    does: "cgroup v2 directory of the sockets to serve; without cgroup v2 the agent warns and goes on",
  },
  {
    field: "resetRemovedBackends",
    flag: "reset-removed-backends",
    kind: "bool",
    fallback: false,
    does: "reset TCP connections whose backend has left its Service; else they go on, as with kube-proxy",
  },
  {
    field: "serviceCIDRs",
    flag: "service-cidr",
    placeholder: "<ranges>",
    kind: "list",
    fallback: [],
    does: "where ClusterIPs come from, beside what ServiceCIDR objects say: other addresses in there are dropped",
  },
  {
    field: "externalIPs",
    flag: "external-ips",
    kind: "bool?",
    fallback: true,
    does: "serve spec.externalIPs",
  },
  {
    field: "snatPorts",
    flag: "snat-ports",
    placeholder: "<ranges>",
    kind: "text",
    fallback: "10240-29999,61000-65535",
    does: "source ports of masqueraded flows, at most two ranges; less NodePorts and ip_local_port_range",
  },
  {
    field: "forwardMarkBit",
    flag: "forward-mark-bit",
    placeholder: "<n>",
    kind: "int?",
    fallback: 13,
    does: "bit of the packet mark by which the host's firewall can tell translated packets; no other program may use it",
    range: [0, 31],
  },
  {
    field: "forwardRules",
    flag: "forward-rules",
    kind: "bool?",
    fallback: true,
    does: "let translated packets and health check ports through the host's iptables, where they would be stopped",
  },
  {
    field: "auditInterval",
    flag: "audit-interval",
    placeholder: "<seconds>",
    kind: "duration",
    fallback: 0,
    fallbackText: "syncPeriod of the mode, 30s",
    does: "how often maps, hooks, sockets, firewall rules and listening programs are looked at anew: whole seconds, as a flag without a unit, too",
    range: [LEAST_AUDIT, MOST_AUDIT],
  },
  {
    field: "topServices",
    flag: "top-services",
    placeholder: "<n>",
    kind: "int",
    fallback: 50,
    does: "how many service ports, the busiest, have traffic series of their own in /metrics; the others share one",
    range: [1, 1000],
  },
  {
    field: "logLevel",
    flag: "log-level",
    placeholder: "<level>",
    kind: "text",
    fallback: "",
    fallbackText: "info; debug from -v 4 on",
    does: "least severity that is logged",
    choices: ["debug", "info", "warn", "error"],
  },
  size("services", "service ports"),
  size("frontends", "Service addresses of one family"),
  size("backends", "backends of one family"),
  size("slots", "places in Services' choices of one family"),
  size("nat", "halves of flows of one family"),
  size("events", "events that wait for a reader: `portolan monitor`"),
] as readonly (Setting & { readonly field: string; readonly flag: string })[];
