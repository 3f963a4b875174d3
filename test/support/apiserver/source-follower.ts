// SPDX-License-Identifier: Apache-2.0
/** The source and the compiler without a kernel below, as a follower of an API server. */
import { spawn } from "node:child_process";
import type { Snapshot } from "../../../src/model/types.js";
import { KubeSource } from "../../../src/source/kube/kube-source.js";
import { loadKubeConnection } from "../../../src/source/kube/kubeconfig.js";
import { createTransport } from "../../../src/source/kube/transport.js";
import type { Logger } from "../../../src/util/log.js";
import { systemTimers } from "../../../src/util/timers.js";
import type { ApiBackend } from "./backend.js";
import { type Follower, type Row, rowsOfSnapshot } from "./follower.js";
import { freePort, type Gate } from "./gate.js";

export class SourceFollower implements Follower {
  readonly #source: KubeSource;
  readonly #errors: string[];
  #snapshot: Snapshot | null = null;

  private constructor(source: KubeSource, errors: string[]) {
    this.#source = source;
    this.#errors = errors;
    source.on((snapshot) => {
      this.#snapshot = snapshot;
    });
  }

  /** Starts it, the gate between it and the server, and waits for the first state. */
  static async start(backend: ApiBackend, gate: Gate, nodeName: string): Promise<SourceFollower> {
    const port = await freePort();
    await gate.reachFrom(
      (argv) => spawn(argv[0] as string, argv.slice(1), { stdio: ["ignore", "pipe", "inherit"] }),
      port,
    );
    const errors: string[] = [];
    const logger: Logger = {
      debug: () => {},
      info: () => {},
      warn: () => {},
      error: (fields, message) => void errors.push(`${message} ${JSON.stringify(fields)}`),
    };
    const options = { kubeconfig: backend.kubeconfig(`https://127.0.0.1:${port}`), master: "" };
    const connection = await loadKubeConnection(options, { logger, timers: systemTimers });
    const transport = createTransport(connection, { version: "test", timers: systemTimers });
    const follower = new SourceFollower(new KubeSource({ nodeName }, { transport, logger }), errors);
    await follower.#source.start(new AbortController().signal);
    return follower;
  }

  async rows(): Promise<readonly Row[]> {
    if (this.#snapshot === null) throw new Error("no state has been told");
    return rowsOfSnapshot(this.#snapshot);
  }

  check(): void {
    if (this.#errors.length > 0) throw new Error(`errors were logged:\n${this.#errors.join("\n")}`);
  }

  async close(): Promise<void> {
    await this.#source.close();
  }
}
