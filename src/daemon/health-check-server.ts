// SPDX-License-Identifier: Apache-2.0
/**
 * The health check ports of this node's Services (6.20 to 6.26): opens, closes and moves their listening sockets as the
 * Services say, and answers each family with its own count.
 */
import { type HealthCheck, healthCheckFamilies } from "../image/health-checks.js";
import type { Family, IpAddress } from "../net/ip.js";
import { Lane } from "../util/lane.js";
import type { BindAddresses } from "./health-check-addresses.js";
import { ConnectionBudget } from "./health-check-connections.js";
import { HealthCheckListener, ListenError, type ListenerOptions } from "./health-check-listener.js";
import { type HealthCheckResponse, healthCheckResponse } from "./health-check-response.js";

/** A health check port that could not be opened: what the Warning event FailedToStartServiceHealthcheck says (13.3). */
export interface HealthCheckFailure {
  /** The system's: "EADDRINUSE", "EADDRNOTAVAIL", "EACCES", "EMFILE" … */
  readonly code: string;
  readonly namespace: string;
  readonly name: string;
  readonly port: number;
  readonly family: Family;
  /** What was to be bound; null: every address of the family. */
  readonly address: IpAddress | null;
  /** The error, with what is known of who has the port. */
  readonly message: string;
}

export interface HealthCheckServersOptions {
  /** The proxy is healthy (6.24). Asked at each request; must not throw. */
  readonly healthy: () => boolean;
  /** Called once per failure, and again when it comes back after a success or with another error. */
  readonly onProblem: (failure: HealthCheckFailure) => void;
  /** Over all ports together. @default 256 */
  readonly maxConnections?: number;
  /** Opens a socket, for tests of hosts that are not there. @default HealthCheckListener.open */
  readonly open?: (options: ListenerOptions) => Promise<HealthCheckListener>;
}

/** A listening socket of ours. */
export interface OwnListener {
  /** null: every address of the family. */
  readonly address: IpAddress | null;
  readonly family: Family;
  readonly port: number;
}

interface Wanted extends OwnListener {
  readonly key: string;
  readonly service: string;
  readonly check: HealthCheck;
}

const MAX_CONNECTIONS = 256;
const WILDCARDS: Readonly<Record<Family, string>> = { 4: "0.0.0.0", 6: "::" };

const serviceKey = ({ namespace, name }: HealthCheck): string => `${namespace}/${name}`;

/** No IPv6 on this host: it serves IPv4 alone, which is no failure (13.4). */
function familyIsMissing({ family, address }: OwnListener, { code }: ListenError): boolean {
  return family === 6 && (code === "EAFNOSUPPORT" || (address === null && code === "EADDRNOTAVAIL"));
}

export class HealthCheckServers {
  readonly #healthy: () => boolean;
  readonly #onProblem: (failure: HealthCheckFailure) => void;
  readonly #connections: ConnectionBudget;
  readonly #openSocket: (options: ListenerOptions) => Promise<HealthCheckListener>;
  readonly #lane = new Lane(() => this.#settle());
  #checks: ReadonlyMap<string, HealthCheck> = new Map();
  #addresses: BindAddresses = { 4: [], 6: [] };
  readonly #open = new Map<string, { readonly wanted: Wanted; readonly listener: HealthCheckListener }>();
  /** The failure that was told of each socket that is not open. */
  readonly #failed = new Map<string, string>();
  #closed = false;

  constructor({ healthy, onProblem, maxConnections, open }: HealthCheckServersOptions) {
    this.#openSocket = open ?? HealthCheckListener.open;
    this.#healthy = healthy;
    this.#onProblem = onProblem;
    this.#connections = new ConnectionBudget(maxConnections ?? MAX_CONNECTIONS);
  }

  /**
   * What is to listen from now on; counts of ports that are open change at once. Sockets that could not be opened before
   * are tried again, so it is to be called after each sync, also when nothing has changed (6.26). Resolves when everything
   * is open that can be; never rejects.
   */
  async update(checks: readonly HealthCheck[], addresses: BindAddresses): Promise<void> {
    if (this.#closed) return;
    this.#checks = new Map(checks.map((check) => [serviceKey(check), check]));
    this.#addresses = addresses;
    await this.#lane.request();
  }

  /** Tries again what could not be opened. Never rejects. */
  async retry(): Promise<void> {
    if (!this.#closed && this.#failed.size > 0) await this.#lane.request();
  }

  /** The sockets that are open: no frontend is to be refused for them. */
  get listening(): readonly OwnListener[] {
    return Array.from(this.#open.values(), ({ wanted: { address, family, port } }) => ({
      address,
      family,
      port,
    }));
  }

  /** Closes everything, for good. */
  async close(): Promise<void> {
    this.#closed = true;
    this.#checks = new Map();
    await this.#lane.request();
  }

  async #settle(): Promise<void> {
    const wanted = this.#wanted();
    // Closed first: a port may go from one Service to another.
    const leaving = Array.from(this.#open).filter(([key]) => !wanted.has(key));
    for (const [key] of leaving) this.#open.delete(key);
    await Promise.all(leaving.map(([, { listener }]) => listener.close()));
    for (const key of this.#failed.keys()) if (!wanted.has(key)) this.#failed.delete(key);
    for (const one of wanted.values()) if (!this.#open.has(one.key)) await this.#tryToOpen(one);
  }

  #wanted(): ReadonlyMap<string, Wanted> {
    const all = new Map<string, Wanted>();
    for (const [service, check] of this.#checks) {
      for (const family of healthCheckFamilies(check)) {
        const addresses = this.#addresses[family];
        for (const address of addresses === "any" ? [null] : addresses) {
          const { port } = check;
          const key = `${service} ${address?.text ?? WILDCARDS[family]} ${port}`;
          all.set(key, { key, service, check, family, address, port });
        }
      }
    }
    return all;
  }

  async #tryToOpen(wanted: Wanted): Promise<void> {
    const { key, service, family, port, address } = wanted;
    try {
      const listener = await this.#openSocket({
        host: address?.text ?? WILDCARDS[family],
        port,
        respond: () => this.#respond(service, family),
        connections: this.#connections,
      });
      this.#open.set(key, { wanted, listener });
      this.#failed.delete(key);
    } catch (error) {
      const known = error instanceof ListenError ? error : new ListenError("UNKNOWN", String(error));
      if (!familyIsMissing(wanted, known)) this.#tell(wanted, known);
    }
  }

  #tell(wanted: Wanted, { code, message }: ListenError): void {
    const { key, check, family, port, address } = wanted;
    const holder = code === "EADDRINUSE" ? this.#holderOf(wanted) : null;
    const text = holder === null ? message : `${message}: it is the health check port of Service ${holder}`;
    if (this.#failed.get(key) === text) return;
    this.#failed.set(key, text);
    const { namespace, name } = check;
    this.#onProblem({ code, namespace, name, port, family, address, message: text });
  }

  /** The other Service whose socket is in the way. */
  #holderOf({ family, port, address }: Wanted): string | null {
    for (const { wanted } of this.#open.values()) {
      if (wanted.family !== family || wanted.port !== port) continue;
      if (wanted.address === null || address === null || wanted.address.text === address.text)
        return wanted.service;
    }
    return null;
  }

  /** Of a Service that has just gone, on a connection that is about to be closed: nothing is here. */
  #respond(service: string, family: Family): HealthCheckResponse {
    const check = this.#checks.get(service);
    const [namespace = "", name = ""] = service.split("/");
    const localEndpoints = check?.localEndpoints[family] ?? 0;
    return healthCheckResponse({ namespace, name, localEndpoints, healthy: this.#healthy() });
  }
}
