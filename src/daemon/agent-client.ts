// SPDX-License-Identifier: Apache-2.0
/** Asks the agent of this host: the other side of local-endpoint.ts. */
import { type IncomingMessage, request } from "node:http";
import { createInterface } from "node:readline";
import { text } from "node:stream/consumers";
import { imageOfRecords, type NodeRecord, type ServicePortRecord } from "../image/image-records.js";
import type { Image } from "../image/types.js";
import { AppError, errorMessage } from "../util/errors.js";
import { inSlices } from "../util/slices.js";
import type { AuditReport } from "./agent-audit.js";
import { type AgentHeader, ENDPOINT_VERSION, endpointPath } from "./local-endpoint.js";

/**
 * E_AGENT_SILENT: no agent with this --bpf-root listens where this process looks. E_AGENT_ANSWER: what it says is none of
 * what this program understands. E_AGENT_NOT_READY: it has compiled nothing yet.
 */
export type AgentClientErrorCode = "E_AGENT_SILENT" | "E_AGENT_ANSWER" | "E_AGENT_NOT_READY";

/** What an agent says of its state. */
export interface AgentState {
  readonly header: AgentHeader;
  readonly image: Image;
}

const TIMEOUT_MS = 60_000;

export class AgentClient {
  readonly #path: string;

  constructor(bpfRoot: string) {
    this.#path = endpointPath(bpfRoot);
  }

  /** What it has compiled. @throws AppError<AgentClientErrorCode> */
  compiled(): Promise<AgentState> {
    return this.#state("/v1/compiled");
  }

  /** The newest state of its source, compiled anew. @throws AppError<AgentClientErrorCode> */
  source(): Promise<AgentState> {
    return this.#state("/v1/source");
  }

  /** Has it audit, and repair, now. @throws AppError<AgentClientErrorCode> */
  async audit(): Promise<AuditReport> {
    return this.#parse<AuditReport>(await text(await this.#ask("POST", "/v1/audit")));
  }

  async #state(path: string): Promise<AgentState> {
    const response = await this.#ask("GET", path);
    const records: unknown[] = [];
    for await (const line of createInterface({ input: response, crlfDelay: Number.POSITIVE_INFINITY }))
      records.push(this.#parse(line));
    const [header, node, ...ports] = records as [AgentHeader, NodeRecord, ...ServicePortRecord[]];
    if (header?.version !== ENDPOINT_VERSION)
      throw this.#error(
        "E_AGENT_ANSWER",
        `the agent speaks version ${header?.version}, not ${ENDPOINT_VERSION}`,
        {
          hint: "Use the portolan of the agent.",
        },
      );
    try {
      return { header, image: await inSlices(imageOfRecords(node, ports)) };
    } catch (cause) {
      throw this.#error("E_AGENT_ANSWER", `the agent's answer is none: ${errorMessage(cause)}`, { cause });
    }
  }

  #parse<T>(json: string): T {
    try {
      return JSON.parse(json) as T;
    } catch (cause) {
      throw this.#error("E_AGENT_ANSWER", `the agent's answer is none: ${errorMessage(cause)}`, { cause });
    }
  }

  #ask(method: string, path: string): Promise<IncomingMessage> {
    return new Promise((resolve, reject) => {
      const asked = request({ socketPath: this.#path, method, path, timeout: TIMEOUT_MS }, (response) => {
        if (response.statusCode === 200) return resolve(response);
        response.resume();
        const code = response.statusCode === 503 ? "E_AGENT_NOT_READY" : "E_AGENT_ANSWER";
        const words =
          code === "E_AGENT_NOT_READY"
            ? "the agent has compiled nothing yet"
            : `the agent answers ${path} with status ${response.statusCode}`;
        reject(this.#error(code, words, { hint: "Its log says what it waits for." }));
      });
      asked.on("timeout", () => asked.destroy(new Error(`no answer within ${TIMEOUT_MS / 1000} s`)));
      asked.on("error", (cause: NodeJS.ErrnoException) => {
        const denied = cause.code === "EACCES" || cause.code === "EPERM";
        reject(
          this.#error("E_AGENT_SILENT", `no agent can be asked at ${this.#path}: ${cause.message}`, {
            cause,
            hint: denied
              ? "Only root may ask it: run this with sudo."
              : "Is it running, with this --bpf-root? An agent in a container needs /run/portolan of the host.",
          }),
        );
      });
      asked.end();
    });
  }

  #error(
    code: AgentClientErrorCode,
    message: string,
    details: { readonly hint?: string; readonly cause?: unknown } = {},
  ): AppError<AgentClientErrorCode> {
    return new AppError(code, message, { ...details, fields: { path: this.#path } });
  }
}
