// SPDX-License-Identifier: Apache-2.0
/**
 * Where the API server is and who we are. KubeConfig of @kubernetes/client-node reads the files and makes the TLS options;
 * tokens and exec plugins are ours, as its extension point has it: the package ignores `tokenFile`, which kubeadm writes,
 * keeps line ends in tokens, and lets plugins run for ever.
 */
import { accessSync, constants, existsSync, readFileSync } from "node:fs";
import type { RequestOptions } from "node:https";
import { dirname, isAbsolute, join } from "node:path";
import type { Cluster, KubeConfig, User } from "@kubernetes/client-node";
import { errorMessage } from "../../util/errors.js";
import type { Logger } from "../../util/log.js";
import type { Timers } from "../../util/timers.js";
import { KubeConfigError } from "./errors.js";
import { ExecPlugin, type ExecPluginConfig } from "./exec-plugin.js";
import { proxyFromEnvironment } from "./proxy-env.js";
import { TokenFile } from "./token-file.js";

export interface KubeConfigOptions {
  /** clientConnection.kubeconfig; "" for none. */
  readonly kubeconfig: string;
  /** --master: goes before the server of the kubeconfig; "" for none. */
  readonly master: string;
  /** In front of the service account's directory, for tests. */
  readonly root?: string;
  readonly env?: Readonly<Record<string, string | undefined>>;
}

export interface KubeConfigDependencies {
  readonly logger: Logger;
  readonly timers: Timers;
}

/** How to reach the API server. */
export interface KubeConnection {
  /** The server, with the path below which the API is, without a slash at the end. */
  readonly server: string;
  /** The server's address came from KUBERNETES_SERVICE_HOST: it is likely the ClusterIP that this node's agent programs. */
  readonly inCluster: boolean;
  /** The proxy that requests go through; null: none. No password in it. */
  readonly proxy: string | null;
  /**
   * Fills in TLS options, an Agent and headers for one request, from files as they are now.
   * @throws ApiError "credentials", or the error of the file system.
   */
  apply(options: RequestOptions): Promise<void>;
  /** The server did not take the credentials: get them anew with the next request. False: there is nothing to get. */
  expire(): boolean;
}

const SERVICE_ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount";
const OUR_PROVIDER = "portolan";

/**
 * Loads and checks. With a kubeconfig, that; with --master alone, that server with the pod's service account where there is
 * one; with neither, the way into the cluster that every pod is given, and a warning.
 * @throws KubeConfigError when it cannot work.
 */
export async function loadKubeConnection(
  options: KubeConfigOptions,
  dependencies: KubeConfigDependencies,
): Promise<KubeConnection> {
  const { KubeConfig } = await import("@kubernetes/client-node");
  const config = new KubeConfig();
  const env = options.env ?? process.env;
  const inCluster = options.kubeconfig === "" && options.master === "";
  if (options.kubeconfig !== "") await loadFile(config, options.kubeconfig);
  else loadServiceAccount(config, options, env);
  const { cluster, user } = current(config, options.kubeconfig);
  const server = checkServer(options.master === "" ? cluster.server : options.master);
  const proxyUrl = cluster.proxyUrl ?? proxyFromEnvironment(server, env) ?? undefined;
  const text = server.href.replace(/\/$/, "");
  config.clusters = [
    {
      ...cluster,
      server: text,
      // The package takes no http server otherwise; there is nothing to verify.
      skipTLSVerify: cluster.skipTLSVerify || server.protocol === "http:",
      ...(proxyUrl === undefined ? {} : { proxyUrl: checkProxy(proxyUrl) }),
    },
  ];
  checkFiles(cluster, user);
  const expire = installCredentials(config, user, cluster, dependencies.timers);
  if (inCluster) warnOfClusterIp(dependencies.logger, text);
  return {
    server: text,
    inCluster,
    proxy: proxyUrl === undefined ? null : withoutPassword(proxyUrl),
    apply: (request) => config.applyToHTTPSOptions(request),
    expire,
  };
}

function warnOfClusterIp(logger: Logger, server: string): void {
  logger.warn(
    {
      code: "api_server_by_cluster_ip",
      server,
      hint: "Name a server that needs no Service: clientConnection.kubeconfig, --master, or KUBERNETES_SERVICE_HOST in the pod.",
    },
    "the API server is reached by the Service address that this agent programs",
  );
}

async function loadFile(config: KubeConfig, path: string): Promise<void> {
  let text: string;
  try {
    text = readFileSync(path, "utf8");
  } catch (cause) {
    throw new KubeConfigError(
      "kubeconfig_unreadable",
      `cannot read the kubeconfig ${path}: ${errorMessage(cause)}`,
      {
        cause,
        fields: { path },
      },
    );
  }
  try {
    config.loadFromString(text);
    config.makePathsAbsolute(dirname(path));
    await readTokenFiles(config, text, dirname(path));
  } catch (cause) {
    throw new KubeConfigError(
      "kubeconfig_invalid",
      `the kubeconfig ${path} cannot be used: ${errorMessage(cause)}`,
      {
        cause,
        fields: { path },
      },
    );
  }
}

/** The key is `tokenFile`, which KubeConfig drops without a word. A token beside it loses, as with client-go. */
async function readTokenFiles(config: KubeConfig, text: string, directory: string): Promise<void> {
  const { parse } = await import("yaml");
  const { users } = (parse(text) ?? {}) as { users?: readonly unknown[] };
  config.users = config.users.map((user) => {
    const raw = (users ?? []).find((entry) => (entry as { name?: unknown } | null)?.name === user.name);
    const path = (raw as { user?: { tokenFile?: unknown } | null } | undefined)?.user?.tokenFile;
    if (typeof path !== "string" || path === "") return user;
    const { token: _loses, ...rest } = user;
    const tokenFile = isAbsolute(path) ? path : join(directory, path);
    return { ...rest, authProvider: { name: "tokenFile", config: { tokenFile } } };
  });
}

function loadServiceAccount(
  config: KubeConfig,
  { master, root = "" }: KubeConfigOptions,
  env: Readonly<Record<string, string | undefined>>,
): void {
  const host = env.KUBERNETES_SERVICE_HOST ?? "";
  const port = env.KUBERNETES_SERVICE_PORT ?? "";
  const tokenFile = `${root}${SERVICE_ACCOUNT}/token`;
  const caFile = `${root}${SERVICE_ACCOUNT}/ca.crt`;
  if (master === "" && (host === "" || port === "" || !existsSync(tokenFile))) {
    throw new KubeConfigError(
      "not_in_cluster",
      "no kubeconfig is given, and this is no pod with a service account",
      {
        hint: "Give clientConnection.kubeconfig (--kubeconfig) or --master.",
      },
    );
  }
  // Nobody sends a token in the clear.
  const known = existsSync(tokenFile) && !master.startsWith("http:");
  const server = master === "" ? `https://${host.includes(":") ? `[${host}]` : host}:${port}` : master;
  config.loadFromClusterAndUser(
    { name: "cluster", server, skipTLSVerify: false, ...(existsSync(caFile) ? { caFile } : {}) },
    { name: "user", ...(known ? { authProvider: { name: "tokenFile", config: { tokenFile } } } : {}) },
  );
}

/** KubeConfig loads a context that names what is not there, and then sends no credentials at all. */
function current(config: KubeConfig, path: string): { cluster: Cluster; user: User } {
  const missing = (what: string): never => {
    throw new KubeConfigError("kubeconfig_incomplete", `the kubeconfig ${path} ${what}`, {
      fields: { path },
    });
  };
  const name = config.getCurrentContext();
  if (typeof name !== "string" || name === "") return missing("has no current-context");
  const context = config.contexts.find((each) => each.name === name);
  if (context === undefined)
    return missing(`has no context ${JSON.stringify(name)}, which is the current one`);
  const cluster = config.clusters.find((each) => each.name === context.cluster);
  if (cluster === undefined) return missing(`has no cluster ${JSON.stringify(context.cluster)}`);
  const userName = context.user ?? "";
  // A context without a user is anonymous; the package makes TLS options only for somebody.
  const user = config.users.find((each) => each.name === userName) ?? (userName === "" ? { name: "" } : null);
  if (user === null) return missing(`has no user ${JSON.stringify(userName)}`);
  if (userName === "") {
    config.users = [...config.users, user];
    config.contexts = [{ ...context, user: "" }];
  }
  return { cluster, user };
}

function checkServer(text: string): URL {
  const full = text.includes("://") ? text : `https://${text}`;
  const url = URL.canParse(full) ? new URL(full) : null;
  if (url !== null && (url.protocol === "https:" || url.protocol === "http:")) return url;
  throw new KubeConfigError("kubeconfig_server", `${JSON.stringify(text)} is no address of an API server`, {
    hint: "It looks like https://10.0.0.10:6443.",
    fields: { server: text },
  });
}

function checkProxy(text: string): string {
  const schemes = ["http:", "https:", "socks:", "socks5:", "socks5h:"];
  if (URL.canParse(text) && schemes.includes(new URL(text).protocol)) return text;
  throw new KubeConfigError("kubeconfig_server", `${JSON.stringify(text)} is no address of a proxy`, {
    hint: "It looks like http://10.0.0.20:3128; https and socks5 are possible too.",
  });
}

function withoutPassword(text: string): string {
  const url = new URL(text);
  url.username = "";
  url.password = "";
  return url.href;
}

function checkFiles({ caFile }: Cluster, { certFile, keyFile, authProvider }: User): void {
  const tokenFile: unknown = authProvider?.config?.tokenFile;
  const files = [
    ["certificate-authority", caFile],
    ["client-certificate", certFile],
    ["client-key", keyFile],
    ["tokenFile", tokenFile],
  ] as const;
  for (const [key, path] of files) {
    if (typeof path !== "string" || path === "") continue;
    try {
      accessSync(path, constants.R_OK);
    } catch (cause) {
      const message = `cannot read ${path}, the kubeconfig's ${key}: ${errorMessage(cause)}`;
      throw new KubeConfigError("kubeconfig_file", message, { cause, fields: { path, key } });
    }
  }
}

/** Puts our readers of tokens in the place of the package's. Returns expire(). */
function installCredentials(config: KubeConfig, user: User, cluster: Cluster, timers: Timers): () => boolean {
  const path: unknown = user.authProvider?.config?.tokenFile;
  const tokens = typeof path === "string" && path !== "" ? new TokenFile(path, timers) : null;
  const exec = tokens === null ? execConfig(user, cluster) : null;
  const plugin = exec === null ? null : new ExecPlugin(exec, timers);
  if (tokens === null && plugin === null) return () => false;
  const { exec: _ours, ...rest } = user;
  config.users = [{ ...rest, authProvider: { name: OUR_PROVIDER } }];
  config.addAuthenticator({
    isAuthProvider: (candidate) => candidate.authProvider?.name === OUR_PROVIDER,
    applyAuthentication: async (_user, options) => {
      const credential = await plugin?.credential();
      const token = credential?.token ?? (await tokens?.token()) ?? null;
      if (token !== null) options.headers = { ...options.headers, Authorization: `Bearer ${token}` };
      if (credential?.cert && credential.key)
        Object.assign(options, { cert: credential.cert, key: credential.key });
    },
  });
  return () => {
    tokens?.expire();
    plugin?.expire();
    return true;
  };
}

function execConfig(user: User, cluster: Cluster): ExecPluginConfig | null {
  const exec: unknown = user.exec ?? user.authProvider?.config?.exec;
  if (typeof exec !== "object" || exec === null) return null;
  const { command, args, env, apiVersion, installHint, provideClusterInfo } = exec as Record<string, unknown>;
  if (typeof command !== "string" || command === "") {
    throw new KubeConfigError(
      "kubeconfig_invalid",
      `the exec plugin of user ${JSON.stringify(user.name)} has no command`,
    );
  }
  const texts = (value: unknown): string[] => (Array.isArray(value) ? value.map(String) : []);
  const variables = Array.isArray(env) ? (env as { name?: unknown; value?: unknown }[]) : [];
  const info = {
    server: cluster.server,
    ...(cluster.caData === undefined ? {} : { "certificate-authority-data": cluster.caData }),
  };
  return {
    command,
    args: texts(args),
    env: Object.fromEntries(variables.map((entry) => [String(entry.name), String(entry.value ?? "")])),
    apiVersion: typeof apiVersion === "string" ? apiVersion : "client.authentication.k8s.io/v1",
    installHint: typeof installHint === "string" ? installHint : "",
    cluster: provideClusterInfo === true ? info : null,
  };
}
