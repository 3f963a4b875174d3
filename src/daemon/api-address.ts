// SPDX-License-Identifier: Apache-2.0
/**
 * Where this node reaches the API server: no externalIP, load balancer address or NodePort of a Service may capture it. And a
 * warning where it is a Service's own address, which the agent would have to write before it could be told of it.
 */
import { lookup } from "node:dns/promises";
import type { ReservedAddress, Snapshot } from "../model/types.js";
import { cidrContains } from "../net/cidr.js";
import { type IpAddress, parseIp } from "../net/ip.js";
import { errorMessage } from "../util/errors.js";
import type { Logger } from "../util/log.js";

export interface ApiAddressOptions {
  /** URLs that connections are made to: the server, or the proxy in front of it. */
  readonly servers: readonly string[];
  readonly log: Logger;
  /** All addresses of a name. */
  readonly resolve?: (host: string) => Promise<readonly string[]>;
}

interface Server {
  readonly host: string;
  readonly port: number;
}

const DEFAULT_PORTS: Readonly<Record<string, number>> = {
  "https:": 443,
  "http:": 80,
  "socks5:": 1080,
  "socks:": 1080,
};

async function lookupAll(host: string): Promise<readonly string[]> {
  return (await lookup(host, { all: true })).map(({ address }) => address);
}

function serverOf(text: string): Server {
  const { hostname, port, protocol } = new URL(text);
  const host = hostname.replace(/^\[(.*)\]$/, "$1");
  return { host, port: port === "" ? (DEFAULT_PORTS[protocol] ?? 443) : Number(port) };
}

export class ApiAddress {
  readonly #servers: readonly Server[];
  readonly #log: Logger;
  readonly #resolve: (host: string) => Promise<readonly string[]>;
  /** By host; the last answer stays when there is no new one. */
  readonly #resolved = new Map<string, readonly IpAddress[]>();
  #reserved: readonly ReservedAddress[] = Object.freeze([]);
  #warned = false;

  constructor({ servers, log, resolve = lookupAll }: ApiAddressOptions) {
    this.#servers = servers.map(serverOf);
    this.#log = log;
    this.#resolve = resolve;
    for (const { host } of this.#servers) {
      const address = parseIp(host);
      if (address !== null) this.#resolved.set(host, [address]);
    }
    this.#build();
  }

  /** The same list as long as nothing changes. */
  get reserved(): readonly ReservedAddress[] {
    return this.#reserved;
  }

  /** Asks again for the addresses of names. Returns whether they are others than before. Never rejects. */
  async refresh(): Promise<boolean> {
    const names = this.#servers.map(({ host }) => host).filter((host) => parseIp(host) === null);
    await Promise.all(
      names.map(async (host) => {
        try {
          const found = (await this.#resolve(host)).map(parseIp).filter((address) => address !== null);
          if (found.length > 0) this.#resolved.set(host, found);
        } catch (error) {
          this.#log.debug({ host, reason: errorMessage(error) }, "the API server's name is not resolved");
        }
      }),
    );
    return this.#build();
  }

  /**
   * Says once when connections go to an address of a Service: as long as that one is not in the maps, nothing can be read
   * that would put it there. The agent goes on: while a kube-proxy, or what an agent before wrote, serves it, it works.
   */
  check(snapshot: Snapshot): void {
    if (this.#warned) return;
    const found = this.#reserved.find(
      ({ address }) => address !== null && isServiceAddress(address, snapshot),
    );
    if (found === undefined) return;
    this.#warned = true;
    this.#log.error(
      {
        code: "api_server_is_a_service",
        address: found.address?.text,
        port: found.port,
        hint: "Name a server that needs no Service: clientConnection.kubeconfig, --master, or KUBERNETES_SERVICE_HOST in the pod.",
      },
      "the API server is reached by a Service address that this agent itself serves: a node that starts anew may never get it",
    );
  }

  #build(): boolean {
    const reserved = this.#servers.flatMap(({ host, port }) =>
      (this.#resolved.get(host) ?? []).map(
        (address): ReservedAddress => ({
          address,
          port,
          protocol: "TCP",
          use: "the API server",
          refusesNodePorts: true,
        }),
      ),
    );
    const texts = (list: readonly ReservedAddress[]): string =>
      list
        .map(({ address, port }) => `${address?.text} ${port}`)
        .sort()
        .join();
    if (texts(reserved) === texts(this.#reserved)) return false;
    this.#reserved = Object.freeze(reserved);
    return true;
  }
}

/** It comes from a range of Services, or is that of default/kubernetes. */
function isServiceAddress(address: IpAddress, { services, serviceCIDRs }: Snapshot): boolean {
  const own = services.get("default/kubernetes")?.clusterIPs ?? [];
  return (
    own.some(({ text }) => text === address.text) ||
    serviceCIDRs.some((range) => cidrContains(range, address))
  );
}
