// SPDX-License-Identifier: Apache-2.0
/** Three hosts in network namespaces of the test's own: a client, a router between two networks, and a server. */

import type { RuleTools } from "../../../src/daemon/forward-rules-tools.js";
import { Host, run } from "../../../src/demo/world/index.js";
import { register, unregister } from "../../../src/demo/world/registry.js";

export const CLIENT = { 4: "192.0.2.2", 6: "2001:db8:1::2" } as const;
export const ROUTER = { 4: "192.0.2.1", 6: "2001:db8:1::1" } as const;
export const SERVER = { 4: "198.51.100.2", 6: "2001:db8:2::2" } as const;

export interface RoutedHosts {
  readonly client: Host;
  readonly router: Host;
  readonly server: Host;
  close(): Promise<void>;
}

let count = 0;

export async function createRoutedHosts(): Promise<RoutedHosts> {
  count += 1;
  const host = (name: string): Host => new Host(name, `ptl-srv-${process.pid}-${count}-${name}`);
  const [client, router, server] = [host("client"), host("router"), host("server")];
  const hosts = [client, router, server];
  const removable = {
    namespaces: () => hosts.map(({ netns }) => netns),
    processes: () => hosts.flatMap((one) => one.pids()),
    handleSignals: true,
  };
  register(removable);
  await run(["ip", "-batch", "-"], { input: hosts.map(({ netns }) => `netns add ${netns}\n`).join("") });
  // Or the router asks for nobody's link address before its own is known to be free, a second later.
  for (const one of hosts)
    await one.sysctl({ "net/ipv6/conf/all/accept_dad": 0, "net/ipv6/conf/default/accept_dad": 0 });
  await router.ip([
    "link set lo up",
    `link add c0 type veth peer name eth0 netns ${client.netns}`,
    `link add s0 type veth peer name eth0 netns ${server.netns}`,
    ...addresses("c0", "192.0.2.1/24", "2001:db8:1::1/64"),
    ...addresses("s0", "198.51.100.1/24", "2001:db8:2::1/64"),
  ]);
  await router.sysctl({ "net/ipv4/ip_forward": 1, "net/ipv6/conf/all/forwarding": 1 });
  for (const [one, four, six, via4, via6] of [
    [client, `${CLIENT[4]}/24`, `${CLIENT[6]}/64`, ROUTER[4], ROUTER[6]],
    [server, `${SERVER[4]}/24`, `${SERVER[6]}/64`, "198.51.100.1", "2001:db8:2::1"],
  ] as const) {
    await one.ip([
      "link set lo up",
      ...addresses("eth0", four, six),
      `route add default via ${via4}`,
      `route add default via ${via6}`,
    ]);
  }
  const close = async (): Promise<void> => {
    for (const one of hosts) await one.endProcesses();
    const input = hosts.map(({ netns }) => `netns del ${netns}\n`).join("");
    await run(["ip", "-force", "-batch", "-"], { input, check: false });
    unregister(removable);
  };
  return { client, router, server, close };
}

function addresses(link: string, four: string, six: string): readonly string[] {
  return [`address add ${four} dev ${link}`, `address add ${six} dev ${link} nodad`, `link set ${link} up`];
}

/** The programs of forward-rules, on another host. */
export function toolsOf(host: Host, legacyTables: RuleTools["legacyTables"]): RuleTools {
  return {
    run: (program, args, input) =>
      host
        .exec([program, ...args], { check: false, ...(input === undefined ? {} : { input }) })
        .then(({ code, stdout, stderr }) => ({ status: code, stdout, stderr })),
    legacyTables,
  };
}
