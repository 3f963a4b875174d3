// SPDX-License-Identifier: Apache-2.0
/** HTTPS_PROXY, HTTP_PROXY and NO_PROXY, as client-go reads them. A kubeconfig's own proxy-url goes before. */
import { cidrContains, parseCidr } from "../../net/cidr.js";
import { parseIp, specialUse } from "../../net/ip.js";

type Environment = Readonly<Record<string, string | undefined>>;

/** The proxy for this server by the environment; null: none. */
export function proxyFromEnvironment(server: URL, env: Environment): string | null {
  const name = server.protocol === "https:" ? "https_proxy" : "http_proxy";
  const proxy = (env[name.toUpperCase()] || env[name] || "").trim();
  if (proxy === "" || isExempt(server, env.NO_PROXY || env.no_proxy || "")) return null;
  return proxy.includes("://") ? proxy : `http://${proxy}`;
}

/** Hosts of this machine never go through a proxy. */
function isExempt(server: URL, noProxy: string): boolean {
  const host = server.hostname.replace(/^\[|\]$/g, "").toLowerCase();
  const port = server.port || (server.protocol === "https:" ? "443" : "80");
  const address = parseIp(host);
  if (host === "localhost" || (address !== null && specialUse(address) === "loopback")) return true;
  return noProxy.split(",").some((word) => {
    const entry = word.trim().toLowerCase();
    if (entry === "" || entry === "*") return entry === "*";
    const range = parseCidr(entry);
    if (range !== null) return address !== null && cidrContains(range, address);
    const [, name = entry, only] = /^(.*?):(\d+)$/.exec(parseIp(entry) === null ? entry : "") ?? [];
    if (only !== undefined && only !== port) return false;
    const exempt = parseIp(name.replace(/^\[|\]$/g, ""));
    if (exempt !== null) return address?.text === exempt.text;
    const domain = name.replace(/^\*?\.?/, "");
    return host.endsWith(`.${domain}`) || (!/^\*?\./.test(name) && host === domain);
  });
}
