// SPDX-License-Identifier: Apache-2.0
/**
 * One audit of everything that an agent keeps in the kernel: the pins of maps, interfaces and their programs, the socket hooks,
 * the host's firewall, and the service maps. Each part finds and repairs by itself; here they are asked, and what they
 * found is put together. One at a time; those asked for meanwhile are one more.
 */
import type { MapName } from "../abi/maps.gen.js";
import type { KeeperFindings } from "../dataplane/attach.js";
import { errorMessage } from "../util/errors.js";
import { Lane } from "../util/lane.js";
import type { Logger } from "../util/log.js";
import type { AuditMetrics } from "./metrics/audit-metrics.js";
import type { SyncMetrics } from "./metrics/sync-metrics.js";
import type { ServiceSync } from "./service-sync.js";

/** What an audit has found that somebody else did, and repaired. */
export interface AuditReport {
  /** Entries that were not as written, by map. */
  readonly entries: Readonly<Partial<Record<MapName, number>>>;
  /** Interfaces that lacked a program, or had another one in its place. */
  readonly interfaces: number;
  /** Hooks of the cgroup, likewise. */
  readonly sockets: number;
  /** Maps without their pin. */
  readonly pins: number;
  /** Why something could not be looked at or repaired; empty: all is as it should be now. */
  readonly failures: readonly string[];
}

/** The parts that are asked. */
export interface AuditedParts {
  readonly pins: { ensure(): Promise<void> };
  readonly follower: { look(audit: boolean): Promise<void> };
  readonly sockets: { ensure(): Promise<void> };
  readonly services: Pick<ServiceSync, "audit">;
  /** What has no findings of its own: firewall rules, sockets of backends that are gone, health check ports. */
  readonly others: readonly (() => Promise<unknown> | undefined)[];
}

export class AgentAudit {
  readonly #lane: Lane<AuditReport> = new Lane(() => this.#run());
  readonly #log: Logger;
  readonly #metrics: { readonly audit: AuditMetrics; readonly sync: Pick<SyncMetrics, "entriesRepaired"> };
  #parts: AuditedParts | null = null;
  /** Found since the last report. */
  #interfaces = 0;
  #interfaceEntries = 0;
  #sockets = 0;
  #pins = 0;
  #lookFailure: unknown = null;

  constructor(
    log: Logger,
    metrics: { readonly audit: AuditMetrics; readonly sync: Pick<SyncMetrics, "entriesRepaired"> },
  ) {
    this.#log = log;
    this.#metrics = metrics;
  }

  /** Who is asked; until then there is nothing to audit. */
  setParts(parts: AuditedParts): void {
    this.#parts = parts;
  }

  /** An audit that begins after this call. Never rejects. */
  request(): Promise<AuditReport> {
    return this.#lane.request();
  }

  /** Resolves when nothing is under way. */
  async idle(): Promise<void> {
    await this.#lane.idle();
  }

  /** The keeper of interfaces has repaired something. */
  interfacesFound({ entries, programs }: KeeperFindings): void {
    this.#interfaceEntries += entries;
    this.#interfaces += programs;
    if (entries > 0) this.#metrics.sync.entriesRepaired("interfaces", entries);
    if (programs > 0) this.#metrics.audit.repaired("interface", programs);
  }

  socketsFound(hooks: number): void {
    this.#sockets += hooks;
    this.#metrics.audit.repaired("socket", hooks);
  }

  pinsFound(pins: number): void {
    this.#pins += pins;
    this.#metrics.audit.repaired("pin", pins);
  }

  /** How the last look at interfaces ended. */
  looked(error: unknown): void {
    this.#lookFailure = error;
  }

  async #run(): Promise<AuditReport> {
    const parts = this.#parts;
    if (parts === null) return { entries: {}, interfaces: 0, sockets: 0, pins: 0, failures: [] };
    const failures: string[] = [];
    await parts.pins.ensure();
    const [entries] = await Promise.all([
      this.#auditServices(parts, failures),
      parts.follower.look(true),
      parts.sockets.ensure(),
      ...parts.others.map(async (ask) => {
        await ask();
      }),
    ]);
    if (this.#lookFailure !== null) failures.push(errorMessage(this.#lookFailure));
    if (this.#interfaceEntries > 0) entries.interfaces = this.#interfaceEntries;
    const found = { interfaces: this.#interfaces, sockets: this.#sockets, pins: this.#pins };
    this.#interfaces = this.#interfaceEntries = this.#sockets = this.#pins = 0;
    return { entries, ...found, failures };
  }

  async #auditServices(
    { services }: AuditedParts,
    failures: string[],
  ): Promise<Partial<Record<MapName, number>>> {
    try {
      const result = await services.audit();
      const failure = result?.failure ?? result?.repair?.failure ?? null;
      if (failure !== null) failures.push(failure.message);
      return Object.fromEntries(result?.differences ?? []);
    } catch (error) {
      this.#log.error({ err: error }, "audit failed");
      failures.push(errorMessage(error));
      return {};
    }
  }
}
