// SPDX-License-Identifier: Apache-2.0
/** The server of metricsBindAddress: /metrics, and what else kube-proxy serves beside it (11.1). */
import type { IncomingMessage, ServerResponse } from "node:http";
import type { Registry } from "prom-client";
import { AppError, errorMessage } from "../../util/errors.js";
import type { Logger } from "../../util/log.js";
import type { Timers } from "../../util/timers.js";
import type { BindAddress } from "./bind-address.js";
import { cpuProfile, MOST_PROFILE_SECONDS } from "./cpu-profile.js";
import { type BindFailure, KeptServer, pathOf } from "./kept-server.js";
import { json, notFound, plainText, type Reply } from "./reply.js";

export interface MetricsServerOptions {
  readonly address: BindAddress;
  /** Of /metrics and of /metrics/slis. */
  readonly registry: Registry;
  readonly slis: Registry;
  /** /proxyMode (11.2): the configured mode, "iptables" when none is. See docs/decisions. */
  readonly proxyMode: string;
  /** /configz: the effective KubeProxyConfiguration as v1alpha1 objects have it, with kind and apiVersion. */
  readonly config: () => Readonly<Record<string, unknown>>;
  /** /flagz: flags as they were given, by name with dashes. */
  readonly flags: Readonly<Record<string, string>>;
  /** Of package.json, for /statusz. */
  readonly version: string;
  /** enableProfiling: /debug/pprof/ and /debug/flags/v. */
  readonly profiling: boolean;
  /** PUT /debug/flags/v: klog's level, 0 or more. */
  readonly setVerbosity: (level: number) => void;
  readonly log: Logger;
  /** bindAddressHardFail (11.6): event FailedToStartMetricServer, and exit. Null: it is tried again for ever. */
  readonly onHardFail: ((failure: BindFailure) => void) | null;
  readonly timers?: Timers;
}

const CONFIGZ_KEY = "kubeproxy.config.k8s.io";
/** Of /debug/pprof/profile, as Go's. */
const PROFILE_SECONDS = 30;
const PROFILES = "/debug/pprof/";
const MOST_LEVEL_BYTES = 64;
const MOST_BODY_BYTES = 64 << 10;

/** What Go's runtime has and this one has not, or not without stopping the node's agent for seconds. */
const WITHOUT: Readonly<Record<string, string>> = {
  allocs: "allocations are not sampled; process memory is in /metrics",
  block: "there are no goroutines that could block",
  goroutine: "there are no goroutines",
  heap: "a V8 heap snapshot would stop the agent for seconds; heap sizes are in /metrics",
  mutex: "there are no mutexes",
  symbol: "profiles hold the names of their functions",
  threadcreate: "thread creations are not recorded",
  trace: "there is no execution trace",
};

export class MetricsServer {
  readonly #options: MetricsServerOptions;
  readonly #server: KeptServer;
  readonly #started: number = Date.now();

  constructor(options: MetricsServerOptions) {
    this.#options = options;
    const { address, log, onHardFail, timers } = options;
    this.#server = new KeptServer({
      name: "metrics",
      address,
      log,
      onHardFail,
      ...(timers === undefined ? {} : { timers }),
      respond: (request, response) => this.#respond(request, response),
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

  #respond(request: IncomingMessage, response: ServerResponse): Reply | Promise<Reply> {
    const { registry, slis, proxyMode, config } = this.#options;
    const path = pathOf(request);
    switch (path) {
      case "/metrics":
        return exposition(registry);
      case "/metrics/slis":
        return exposition(slis);
      case "/healthz":
        return plainText(200, "ok");
      case "/proxyMode":
        return plainText(200, proxyMode);
      case "/configz":
        return json({ [CONFIGZ_KEY]: config() });
      case "/flagz":
        return plainText(200, this.#flagz());
      case "/statusz":
        return plainText(200, this.#statusz());
      default:
        return this.#debug(path, request, response);
    }
  }

  #debug(path: string, request: IncomingMessage, response: ServerResponse): Reply | Promise<Reply> {
    const isFlag = path === "/debug/flags/v";
    if (!isFlag && !path.startsWith(PROFILES)) return notFound();
    if (!this.#options.profiling)
      return notFound("profiling is off: set enableProfiling, or give --profiling");
    if (isFlag) return this.#verbosity(request);
    const name = path.slice(PROFILES.length);
    if (name === "") return plainText(200, profileIndex());
    if (name === "cmdline") return plainText(200, process.argv.join("\0"));
    if (name === "profile") return profile(request, response);
    const reason = WITHOUT[name];
    return notFound(reason === undefined ? undefined : `no profile "${name}" here: ${reason}`);
  }

  async #verbosity(request: IncomingMessage): Promise<Reply> {
    if (request.method !== "PUT") {
      const reply = plainText(405, "unsupported http method: use PUT\n");
      return { ...reply, headers: { ...reply.headers, Allow: "PUT" } };
    }
    const text = (await readText(request, MOST_LEVEL_BYTES))?.trim() ?? "";
    if (!/^[0-9]{1,3}$/.test(text))
      return plainText(400, `"${text.slice(0, 32)}" is no verbosity: give a number\n`);
    this.#options.setVerbosity(Number(text));
    return plainText(200, `successfully set klog.logging.verbosity to ${text}`);
  }

  #flagz(): string {
    const lines = Object.entries(this.#options.flags)
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([name, value]) => `${name}=${value}`);
    const title =
      "kube-proxy flagz\nWarning: this is for people, not for programs; what a flag does not say is in /configz";
    return `${title}\n\n${lines.map((line) => `${line}\n`).join("")}`;
  }

  #statusz(): string {
    const { version, proxyMode } = this.#options;
    const lines = [
      "kube-proxy statusz",
      "Warning: this is for people, not for programs",
      "",
      `Implementation: portolan ${version}`,
      `Proxy mode: ${proxyMode}`,
      `Started: ${new Date(this.#started).toISOString()}`,
      `Up: ${Math.floor((Date.now() - this.#started) / 1000)} s`,
      `Node.js: ${process.version}`,
    ];
    return `${lines.join("\n")}\n`;
  }
}

async function exposition(registry: Registry): Promise<Reply> {
  return { status: 200, headers: { "Content-Type": registry.contentType }, body: await registry.metrics() };
}

function profileIndex(): string {
  const without = Object.entries(WITHOUT).map(([name, reason]) => `  ${name}: ${reason}`);
  return [
    "/debug/pprof/",
    "",
    "profile?seconds=30: CPU, as a .cpuprofile of V8 (Chrome's developer tools and speedscope open it)",
    "cmdline: the command line, separated by NUL",
    "",
    "not here:",
    ...without,
    "",
  ].join("\n");
}

async function profile(request: IncomingMessage, response: ServerResponse): Promise<Reply> {
  const given = new URL(request.url ?? "/", "http://localhost").searchParams.get("seconds");
  const seconds = given === null ? PROFILE_SECONDS : Number(given);
  if (!(seconds > 0 && seconds <= MOST_PROFILE_SECONDS))
    return plainText(400, `seconds must be above 0 and at most ${MOST_PROFILE_SECONDS}\n`);
  const gone = new AbortController();
  response.once("close", () => gone.abort());
  try {
    const body = await cpuProfile(seconds, gone.signal);
    const headers = {
      "Content-Type": "application/json",
      "Content-Disposition": 'attachment; filename="portolan.cpuprofile"',
      "X-Content-Type-Options": "nosniff",
    };
    return { status: 200, headers, body };
  } catch (error) {
    if (error instanceof AppError && error.code === "E_PROFILE_BUSY")
      return plainText(409, `${error.message}\n`);
    return plainText(500, `no CPU profile: ${errorMessage(error)}\n`);
  }
}

/** Null: there is more than that. Read to its end all the same, so that the answer reaches who is still sending. */
async function readText(request: IncomingMessage, most: number): Promise<string | null> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    if (bytes <= most) chunks.push(chunk);
    if (bytes > MOST_BODY_BYTES) break;
  }
  return bytes > most ? null : Buffer.concat(chunks).toString("utf8");
}
