// SPDX-License-Identifier: Apache-2.0
/**
 * What an agent tells programs of its own host that root runs: HTTP on a unix socket in its run directory. Nothing is kept up
 * to date for it: an answer is made when somebody asks, from what the agent works with.
 *
 *   GET  /v1/compiled   JSON lines: AgentHeader, NodeRecord, then a ServicePortRecord for each service port: what the maps were told
 *   GET  /v1/source     the same of the newest state of the source, compiled anew, from nothing
 *   POST /v1/audit      an audit now; its AuditReport when it has ended
 */
import { rmSync } from "node:fs";
import { chmod } from "node:fs/promises";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { join } from "node:path";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import type { ServedInterface } from "../dataplane/attach.js";
import { nodeRecord, servicePortRecords } from "../image/image-records.js";
import type { Image } from "../image/types.js";
import type { LoadedProgram } from "../native/programs.js";
import { errorMessage } from "../util/errors.js";
import type { Logger } from "../util/log.js";
import type { AuditReport } from "./agent-audit.js";
import type { SocketLb } from "./kernel-options.js";
import { makeRunDirectory, runDirectoryOf } from "./run-directory.js";

export const ENDPOINT_VERSION = 1;

/** What stands before an image. */
export interface AgentHeader {
  readonly version: number;
  readonly pid: number;
  readonly node: string;
  /** Where the cluster is read from. */
  readonly source:
    | { readonly kind: "manifests"; readonly paths: readonly string[] }
    | {
        readonly kind: "api";
        readonly server: string;
        readonly resourceVersions: Readonly<Record<string, string>>;
      };
  /** The source has told nothing newer than what was compiled. */
  readonly newest: boolean;
  /** There is more in the image than the source names, for it has not been whole yet. */
  readonly heldBack: boolean;
  /** Interfaces that should carry programs. */
  readonly interfaces: readonly ServedInterface[];
  /** What it has written into the map `interfaces`: struct interface in hex digits, by ifindex. Null: it does not know. */
  readonly interfaceEntries: Readonly<Record<string, string>> | null;
  readonly sockets: { readonly mode: SocketLb; readonly cgroup: string | null };
  /** Those that the agent has loaded: with other ids they are none of its own. */
  readonly programs: readonly LoadedProgram[];
}

export interface LocalEndpointOptions {
  readonly bpfRoot: string;
  readonly log: Logger;
  readonly header: () => AgentHeader;
  /** Null: nothing has been compiled yet. */
  readonly compiled: () => Image | null;
  readonly source: () => Promise<Image | null>;
  readonly audit: () => Promise<AuditReport>;
}

/** The socket of an agent with this --bpf-root. */
export const endpointPath = (bpfRoot: string): string => join(runDirectoryOf(bpfRoot), "agent.sock");

/** Of the socket: whoever may not write to it cannot connect. */
const ROOT_ONLY = 0o600;

export class LocalEndpoint {
  readonly #options: LocalEndpointOptions;
  readonly #path: string;
  readonly #server: Server;

  constructor(options: LocalEndpointOptions) {
    this.#options = options;
    this.#path = endpointPath(options.bpfRoot);
    this.#server = createServer((request, response) => {
      this.#respond(request, response).catch((error: unknown) => {
        if (!response.headersSent) end(response, 500, errorMessage(error));
        else response.destroy();
      });
    });
  }

  /** Never rejects: an agent works without it. The caller holds the one agent's lock, so a socket that is there is dead. */
  async start(): Promise<void> {
    try {
      makeRunDirectory(this.#options.bpfRoot);
      rmSync(this.#path, { force: true });
      await this.#listen();
      await chmod(this.#path, ROOT_ONLY);
    } catch (error) {
      this.#options.log.warn(
        { path: this.#path, reason: errorMessage(error) },
        "other programs of this host cannot ask this agent",
      );
    }
  }

  /** The socket is made with the mode that it keeps: bind(2) happens within listen(). */
  #listen(): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#server.once("error", reject);
      const mask = process.umask(0o777 & ~ROOT_ONLY);
      try {
        this.#server.listen(this.#path, () => {
          this.#server.off("error", reject);
          this.#server.on("error", () => {});
          resolve();
        });
      } finally {
        process.umask(mask);
      }
      this.#server.unref();
    });
  }

  async close(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise<void>((resolve) => this.#server.close(() => resolve()));
    rmSync(this.#path, { force: true });
  }

  async #respond(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { header, compiled, source, audit } = this.#options;
    request.resume();
    switch (`${request.method} ${request.url}`) {
      case "GET /v1/compiled":
        return await sendImage(response, header(), compiled());
      case "GET /v1/source":
        return await sendImage(response, header(), await source());
      case "POST /v1/audit":
        return end(response, 200, JSON.stringify(await audit()));
      default:
        return end(response, 404, "no such path");
    }
  }
}

function end(response: ServerResponse, status: number, body: string): void {
  response.writeHead(status, { "Content-Type": status === 200 ? "application/json" : "text/plain" });
  response.end(`${body}\n`);
}

async function sendImage(response: ServerResponse, header: AgentHeader, image: Image | null): Promise<void> {
  if (image === null) return end(response, 503, "nothing has been compiled yet");
  response.writeHead(200, { "Content-Type": "application/jsonl" });
  await pipeline(Readable.from(lines(header, image)), response);
}

function* lines(header: AgentHeader, image: Image): Generator<string> {
  yield `${JSON.stringify(header)}\n`;
  yield `${JSON.stringify(nodeRecord(image))}\n`;
  for (const record of servicePortRecords(image)) yield `${JSON.stringify(record)}\n`;
}
