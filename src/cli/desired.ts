// SPDX-License-Identifier: Apache-2.0
/** What a node's maps should hold: read from manifests or an API server, by options of the command line. */
import { type ProxyOptions, parseProxyOptions, proxyConfig } from "../config/proxy-options.js";
import type { Problem, ProxyConfig, Snapshot } from "../model/types.js";
import type { KubeSource } from "../source/kube/kube-source.js";
import type { Ignored } from "../source/objects.js";
import { AppError, errorMessage, UserError } from "../util/errors.js";
import type { Logger } from "../util/log.js";
import { systemTimers } from "../util/timers.js";
import { productVersion } from "../util/version.js";
import type { DesiredOptions } from "./desired-options.js";
import { nodeName } from "./node-name.js";
import type { Printer } from "./output.js";

export interface Desired {
  /** Whose maps. */
  readonly node: string;
  readonly snapshot: Snapshot;
  readonly problems: readonly Problem[];
  /** Objects of manifests that were left out on purpose. */
  readonly ignored: readonly Ignored[];
  readonly proxy: ProxyOptions;
  readonly config: ProxyConfig;
}

/**
 * Reads manifests, or lists the API server once. Warnings about options are noted.
 *
 * @throws UserError for options that are wrong, or a path that is not there; AppError E_API_SERVER when it does not answer
 */
export async function readDesired(options: DesiredOptions, printer: Printer): Promise<Desired> {
  const node = nodeName(options.node, "--node");
  const proxy = parseProxyOptions(options);
  for (const warning of proxy.warnings) printer.note(`warning: ${warning}`);
  const read =
    options.kubeconfig === undefined
      ? await readFiles(options.file ?? [], node, proxy)
      : await readCluster(options.kubeconfig, node, proxy);
  return { node, proxy, config: proxyConfig(proxy, read.snapshot.node), ...read };
}

type Read = Pick<Desired, "snapshot" | "problems" | "ignored">;

async function readFiles(
  paths: readonly string[],
  nodeName: string,
  { serviceCIDRs }: ProxyOptions,
): Promise<Read> {
  const { readManifests } = await import("../source/file/read-manifests.js");
  return readManifests(paths, { nodeName, serviceCIDRs });
}

/** A cluster of ten thousand Services is listed in a few seconds. */
const LIST_MS = 30_000;

/** Once, without watching on. */
async function readCluster(
  kubeconfig: string,
  nodeName: string,
  { serviceCIDRs }: ProxyOptions,
): Promise<Read> {
  if (kubeconfig === "") throw new UserError("--kubeconfig is empty");
  const [{ KubeSource }, { loadKubeConnection }, { createTransport }] = await Promise.all([
    import("../source/kube/kube-source.js"),
    import("../source/kube/kubeconfig.js"),
    import("../source/kube/transport.js"),
  ]);
  const log = new LastWarning();
  const connection = await loadKubeConnection(
    { kubeconfig, master: "" },
    { logger: log, timers: systemTimers },
  );
  const source = new KubeSource(
    { nodeName, serviceCIDRs },
    {
      transport: createTransport(connection, { version: productVersion(), timers: systemTimers }),
      logger: log,
    },
  );
  const timer = setTimeout(() => void source.close(), LIST_MS);
  try {
    await source.start(new AbortController().signal);
    if (source.snapshot === null) throw unanswered(connection.server, nodeName, source, log.text);
    return { snapshot: source.snapshot, problems: source.problems, ignored: [] };
  } finally {
    clearTimeout(timer);
    await source.close();
  }
}

function unanswered(
  server: string,
  nodeName: string,
  { synced, node }: KubeSource,
  last: string,
): AppError<"E_API_SERVER"> {
  if (synced && !node.exists)
    return new AppError("E_API_SERVER", `the API server at ${server} has no Node "${nodeName}"`, {
      hint: "Name the node with --node, as `kubectl get nodes` has it.",
    });
  const why = last === "" ? "" : `: ${last}`;
  return new AppError(
    "E_API_SERVER",
    `the API server at ${server} was not read in ${LIST_MS / 1000} s${why}`,
    {
      hint: "Is it the right --kubeconfig? `kubectl --kubeconfig … get services` asks the same server.",
    },
  );
}

/** Remembers why the last request failed: for the error, if it comes to that. */
class LastWarning implements Logger {
  text = "";

  debug(): void {}

  info(): void {}

  warn({ error }: Readonly<Record<string, unknown>>): void {
    if (error !== undefined) this.text = errorMessage(error);
  }

  error(fields: Readonly<Record<string, unknown>>): void {
    this.warn(fields);
  }
}
