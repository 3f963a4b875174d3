// SPDX-License-Identifier: Apache-2.0
/** The health check ports beside the maps: what is published in the kernel is what they answer (6.20 to 6.27). */
import { type HealthCheck, HealthCheckList } from "../image/health-checks.js";
import type { Image } from "../image/types.js";
import type { ProxyConfig, Snapshot } from "../model/types.js";
import type { Logger } from "../util/log.js";
import type { ForwardRules } from "./forward-rules.js";
import { healthCheckAddresses } from "./health-check-addresses.js";
import { type HealthCheckFailure, HealthCheckServers } from "./health-check-server.js";
import type { ExcludedListener } from "./local-listeners.js";

export interface HealthChecksOptions {
  readonly nodePortAddresses: ProxyConfig["nodePortAddresses"];
  readonly healthy: () => boolean;
  /** Opens INPUT for the ports; null: the host's firewall is left alone. */
  readonly rules: Pick<ForwardRules, "ensureInputAccept"> | null;
  /** Each failure to open a port (6.26, 13.3): for an event. Once, until it is over or another one. */
  readonly onProblem?: (failure: HealthCheckFailure) => void;
  readonly log: Logger;
}

export class HealthChecks {
  readonly #nodePortAddresses: ProxyConfig["nodePortAddresses"];
  readonly #rules: HealthChecksOptions["rules"];
  readonly #servers: HealthCheckServers;
  readonly #list = new HealthCheckList();
  /** That the ports were last asked of. */
  #checks: readonly HealthCheck[] | null = null;
  #ports: string | null = null;

  constructor({ nodePortAddresses, healthy, rules, onProblem: tell, log }: HealthChecksOptions) {
    this.#nodePortAddresses = nodePortAddresses;
    this.#rules = rules;
    const onProblem = (failure: HealthCheckFailure): void => {
      const { namespace, name, address, message, ...rest } = failure;
      const fields = { service: `${namespace}/${name}`, address: address?.text ?? null, reason: message };
      log.warn({ ...fields, ...rest }, "health check port cannot be opened");
      tell?.(failure);
    };
    this.#servers = new HealthCheckServers({ healthy, onProblem });
  }

  /** The sockets that are open: they are ours, and no frontend is in their way. */
  get listening(): readonly ExcludedListener[] {
    return this.#servers.listening;
  }

  /** The kernel holds `image`, which was compiled from `snapshot`. Never rejects. */
  async committed(image: Image, snapshot: Snapshot): Promise<void> {
    const checks = this.#list.of(snapshot);
    // Few nodes' Services have one, and other endpoints come a hundred times a second.
    if (this.#checks === checks && checks.length === 0) return;
    this.#checks = checks;
    const ports = checks.map(({ port }) => port).sort((a, b) => a - b);
    const text = ports.join();
    if (this.#rules !== null && this.#ports !== text) {
      this.#ports = text;
      void this.#rules.ensureInputAccept(ports);
    }
    await this.#servers.update(
      checks,
      healthCheckAddresses(this.#nodePortAddresses, image.nodePortAddresses),
    );
  }

  /** Tries again what could not be opened. Never rejects. */
  retry(): Promise<void> {
    return this.#servers.retry();
  }

  close(): Promise<void> {
    return this.#servers.close();
  }
}
