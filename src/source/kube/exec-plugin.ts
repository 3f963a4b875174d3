// SPDX-License-Identifier: Apache-2.0
/** Credentials from a program (`users[].user.exec`): run when there are none or they have expired, one at a time, not for ever. */
import { execFile } from "node:child_process";
import type { Timers } from "../../util/timers.js";
import { ApiError } from "./errors.js";

export interface ExecPluginConfig {
  readonly command: string;
  readonly args: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  readonly apiVersion: string;
  readonly installHint: string;
  /** What KUBERNETES_EXEC_INFO says of the cluster; null: nothing (provideClusterInfo). */
  readonly cluster: Readonly<Record<string, unknown>> | null;
}

export interface ExecCredential {
  readonly token: string | null;
  readonly cert: string | null;
  readonly key: string | null;
}

const TIMEOUT_MS = 30_000;
const LONGEST_OUTPUT = 1 << 20;
/** Not used to the last moment: a request takes a while. */
const LEEWAY_MS = 10_000;

export class ExecPlugin {
  readonly #config: ExecPluginConfig;
  readonly #timers: Timers;
  #credential: ExecCredential | null = null;
  /** Milliseconds since 1970. */
  #expiresAt = 0;
  #running: Promise<ExecCredential> | null = null;

  constructor(config: ExecPluginConfig, timers: Timers) {
    this.#config = config;
    this.#timers = timers;
  }

  /** @throws ApiError "credentials" when the program fails, takes over 30 s, or says what nobody understands. */
  credential(): Promise<ExecCredential> {
    if (this.#credential !== null && this.#timers.epoch() < this.#expiresAt) {
      return Promise.resolve(this.#credential);
    }
    this.#running ??= this.#run().finally(() => {
      this.#running = null;
    });
    return this.#running;
  }

  /** The server did not take it: ask for another. */
  expire(): void {
    this.#credential = null;
  }

  async #run(): Promise<ExecCredential> {
    const output = await this.#execute();
    const { credential, expiresAt } = this.#read(output);
    this.#credential = credential;
    this.#expiresAt = expiresAt;
    return credential;
  }

  #execute(): Promise<string> {
    const { command, args, env, apiVersion, cluster, installHint } = this.#config;
    const spec = { interactive: false, ...(cluster === null ? {} : { cluster }) };
    const info = JSON.stringify({ apiVersion, kind: "ExecCredential", spec });
    const options = {
      env: { ...process.env, ...env, KUBERNETES_EXEC_INFO: info },
      timeout: TIMEOUT_MS,
      killSignal: "SIGKILL" as const,
      maxBuffer: LONGEST_OUTPUT,
    };
    return new Promise((resolve, reject) => {
      const child = execFile(command, [...args], options, (error, stdout, stderr) => {
        if (error === null) {
          resolve(stdout);
          return;
        }
        const killed = error.killed === true ? `it took longer than ${TIMEOUT_MS / 1000} s` : error.message;
        reject(
          new ApiError("credentials", `the exec plugin ${command} failed: ${killed}`, {
            cause: error,
            fields: { stderr: stderr.slice(-500) },
            ...(installHint === "" ? {} : { hint: installHint }),
          }),
        );
      });
      child.stdin?.end();
    });
  }

  #read(output: string): { credential: ExecCredential; expiresAt: number } {
    const { command, apiVersion } = this.#config;
    const refuse = (why: string): never => {
      throw new ApiError("credentials", `the exec plugin ${command} ${why}`);
    };
    let value: unknown;
    try {
      value = JSON.parse(output);
    } catch {
      return refuse("printed no JSON");
    }
    const { kind, apiVersion: version, status } = (value ?? {}) as Record<string, unknown>;
    if (kind !== "ExecCredential" || version !== apiVersion)
      return refuse(`printed no ${apiVersion} ExecCredential`);
    const text = (name: string): string | null => {
      const field = (status as Record<string, unknown> | null | undefined)?.[name];
      return typeof field === "string" && field !== "" ? field : null;
    };
    const token = text("token")?.trim() ?? null;
    const cert = text("clientCertificateData");
    const key = text("clientKeyData");
    if (token === null && (cert === null || key === null))
      return refuse("gave neither a token nor a certificate");
    const expires = text("expirationTimestamp");
    const time = expires === null ? Number.POSITIVE_INFINITY : Date.parse(expires) - LEEWAY_MS;
    return { credential: { token, cert, key }, expiresAt: Number.isNaN(time) ? 0 : time };
  }
}
