// SPDX-License-Identifier: Apache-2.0
/** The server of healthzBindAddress: /healthz and /livez (section 10). */
import type { Logger } from "../../util/log.js";
import type { Timers } from "../../util/timers.js";
import type { BindAddress } from "../servers/bind-address.js";
import { type BindFailure, KeptServer, pathOf } from "../servers/kept-server.js";
import { notFound, type Reply } from "../servers/reply.js";
import { healthResponse, type ProbePath } from "./health-response.js";
import type { HealthState } from "./health-state.js";

/** Counts what was answered (10.8). */
export interface ProbeCounter {
  probed(path: ProbePath, status: number): void;
}

export interface HealthServerOptions {
  readonly address: BindAddress;
  readonly state: HealthState;
  readonly counter: ProbeCounter;
  readonly log: Logger;
  /** bindAddressHardFail (10.9): event FailedToStartProxierHealthcheck, and exit. Null: it is tried again for ever. */
  readonly onHardFail: ((failure: BindFailure) => void) | null;
  readonly timers?: Timers;
}

export class HealthServer {
  readonly #server: KeptServer;
  readonly #state: HealthState;
  readonly #counter: ProbeCounter;
  readonly #log: Logger;
  /** What was logged last. */
  #wasHealthy = true;

  constructor({ address, state, counter, log, onHardFail, timers }: HealthServerOptions) {
    this.#state = state;
    this.#counter = counter;
    this.#log = log;
    this.#server = new KeptServer({
      name: "healthz",
      address,
      log,
      onHardFail,
      ...(timers === undefined ? {} : { timers }),
      respond: (request) => this.#respond(pathOf(request)),
    });
  }

  /** Resolves after the first attempt to listen. Never rejects. */
  start(): Promise<void> {
    return this.#server.start();
  }

  /** Null while it does not listen. */
  get listening(): BindAddress | null {
    return this.#server.listening;
  }

  close(): Promise<void> {
    return this.#server.close();
  }

  #respond(path: string): Reply {
    if (path !== "/healthz" && path !== "/livez") return notFound();
    const report = this.#state.report();
    const reply = healthResponse(path, report);
    this.#counter.probed(path, reply.status);
    if (this.#wasHealthy !== report.healthy) {
      if (report.healthy) this.#log.info({}, "healthy again");
      else this.#log.warn({ reason: report.reason }, "not healthy");
      this.#wasHealthy = report.healthy;
    }
    return reply;
  }
}
