// SPDX-License-Identifier: Apache-2.0
/** A real etcd and kube-apiserver (and kube-controller-manager, if there), on loopback ports, in a directory of their own. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import type { ApiBackend } from "./backend.js";
import { CertificateAuthority, signingKey } from "./certificates.js";
import { ApiClient } from "./client.js";
import { freePort } from "./gate.js";
import { kubeadmKubeconfig, writeKubeconfig } from "./kubeconfig.js";

const HOST = "127.0.0.1";
/** A cold start on a small machine. */
const START_MS = 120_000;
const ADMIN_TOKEN = "admin-token";
const PROXY_TOKEN = "kube-proxy-token";

/** A program that runs until it is ended; its log is in the directory. */
class Daemon {
  readonly name: string;
  readonly #process: ChildProcess;
  readonly #log: string;
  #ended: string | undefined;

  constructor(assets: string, directory: string, name: string, flags: readonly string[]) {
    this.name = name;
    this.#log = `${directory}/${name}.log`;
    const log = openSync(this.#log, "w");
    this.#process = spawn(`${assets}/${name}`, flags, { stdio: ["ignore", log, log], cwd: directory });
    this.#process.on("error", (error) => {
      this.#ended = error.message;
    });
    this.#process.on("exit", (code, signal) => {
      this.#ended = `${signal ?? `status ${code}`}`;
    });
  }

  /** Waits until a probe is true. @throws with the end of the log when the program ends first, or never gets there */
  async ready(probe: () => Promise<boolean>): Promise<void> {
    const end = performance.now() + START_MS;
    while (!(await probe().catch(() => false))) {
      if (this.#ended !== undefined) throw new Error(`${this.name} ended (${this.#ended})\n${this.#tail()}`);
      if (performance.now() > end)
        throw new Error(`${this.name} is not ready after ${START_MS} ms\n${this.#tail()}`);
      await new Promise((resolve) => setTimeout(resolve, 200));
    }
  }

  async stop(): Promise<void> {
    if (this.#ended !== undefined) return;
    const exit = once(this.#process, "exit");
    this.#process.kill("SIGKILL"); // nothing of it is kept
    await exit;
  }

  #tail(): string {
    return readFileSync(this.#log, "utf8").split("\n").slice(-20).join("\n");
  }
}

export class RealApi implements ApiBackend {
  readonly host: string = HOST;
  readonly port: number;
  readonly admin: ApiClient;
  readonly directory: string;
  /** Deployments become Pods, and Pods EndpointSlices. */
  readonly hasControllers: boolean;
  readonly #authority: string;
  readonly #daemons: readonly Daemon[];
  readonly #etcd: string;
  #files = 0;

  private constructor(
    facts: Pick<RealApi, "port" | "admin" | "directory" | "hasControllers"> & {
      readonly authority: string;
      readonly daemons: readonly Daemon[];
      readonly etcd: string;
    },
  ) {
    this.port = facts.port;
    this.admin = facts.admin;
    this.directory = facts.directory;
    this.hasControllers = facts.hasControllers;
    this.#authority = facts.authority;
    this.#daemons = facts.daemons;
    this.#etcd = facts.etcd;
  }

  /** Starts all. @throws with the log of what does not start */
  static async start(assets: string): Promise<RealApi> {
    const directory = mkdtempSync(`${tmpdir()}/portolan-real-api-`);
    const daemons: Daemon[] = [];
    try {
      return await RealApi.#startIn(assets, directory, daemons);
    } catch (error) {
      for (const daemon of daemons) await daemon.stop();
      rmSync(directory, { recursive: true, force: true });
      throw error;
    }
  }

  static async #startIn(assets: string, directory: string, daemons: Daemon[]): Promise<RealApi> {
    const authority = new CertificateAuthority(directory);
    const [etcdPort, peerPort, port] = [await freePort(), await freePort(), await freePort()];
    const etcd = `http://${HOST}:${etcdPort}`;
    const store = new Daemon(
      assets,
      directory,
      "etcd",
      etcdFlags(directory, etcd, `http://${HOST}:${peerPort}`),
    );
    daemons.push(store);
    await store.ready(async () => (await fetch(`${etcd}/health`)).ok);
    const server = new Daemon(
      assets,
      directory,
      "kube-apiserver",
      apiFlags(directory, authority, etcd, port),
    );
    daemons.push(server);
    const url = `https://${HOST}:${port}`;
    const admin = new ApiClient({ url, authority: authority.certificate, token: ADMIN_TOKEN });
    const ok = async (path: string): Promise<boolean> => (await admin.send("GET", path)).status === 200;
    // The namespace is made a moment after the server is ready.
    await server.ready(async () => (await ok("/readyz")) && (await ok("/api/v1/namespaces/default")));
    const hasControllers = existsSync(`${assets}/kube-controller-manager`);
    if (hasControllers) {
      const flags = await controllerFlags(directory, authority, url);
      daemons.push(new Daemon(assets, directory, "kube-controller-manager", flags));
    }
    const facts = { port, admin, directory, hasControllers, authority: authority.certificate, daemons, etcd };
    return new RealApi(facts);
  }

  kubeconfig(server: string): string {
    const tokenFile = `${this.directory}/token`;
    writeFileSync(tokenFile, PROXY_TOKEN);
    const path = `${this.directory}/kubeconfig-${this.#files++}`;
    writeFileSync(path, kubeadmKubeconfig(server, this.#authority, tokenFile));
    return path;
  }

  /** Of etcd; what the server has in its watch cache can be watched from still. */
  async compact(): Promise<void> {
    const post = async (path: string, body: object): Promise<{ header: { revision: string } }> => {
      const response = await fetch(this.#etcd + path, { method: "POST", body: JSON.stringify(body) });
      if (!response.ok) throw new Error(`etcd ${path}: ${response.status} ${await response.text()}`);
      return (await response.json()) as { header: { revision: string } };
    };
    const { header } = await post("/v3/kv/range", { key: Buffer.from("x").toString("base64") });
    await post("/v3/kv/compaction", { revision: header.revision });
  }

  async close(): Promise<void> {
    this.admin.close();
    for (const daemon of [...this.#daemons].reverse()) await daemon.stop();
    rmSync(this.directory, { recursive: true, force: true });
  }
}

function etcdFlags(directory: string, client: string, peer: string): string[] {
  return [
    `--data-dir=${directory}/etcd`,
    `--listen-client-urls=${client}`,
    `--advertise-client-urls=${client}`,
    `--listen-peer-urls=${peer}`,
    `--initial-advertise-peer-urls=${peer}`,
    `--initial-cluster=default=${peer}`,
  ];
}

function apiFlags(directory: string, authority: CertificateAuthority, etcd: string, port: number): string[] {
  const pair = authority.server([HOST, "localhost"]);
  const signing = signingKey(directory);
  const tokens = `${directory}/tokens.csv`;
  writeFileSync(tokens, `${ADMIN_TOKEN},admin,1,"system:masters"\n${PROXY_TOKEN},system:kube-proxy,2\n`);
  return [
    `--etcd-servers=${etcd}`,
    `--bind-address=${HOST}`,
    `--advertise-address=${HOST}`,
    `--secure-port=${port}`,
    `--tls-cert-file=${pair.certificate}`,
    `--tls-private-key-file=${pair.key}`,
    `--client-ca-file=${authority.certificate}`,
    `--token-auth-file=${tokens}`,
    "--authorization-mode=RBAC",
    "--service-account-issuer=https://kubernetes.default.svc",
    `--service-account-key-file=${signing.publicKey}`,
    `--service-account-signing-key-file=${signing.key}`,
    // Pods without a service account controller; Nodes without a taint that nobody takes away.
    "--disable-admission-plugins=ServiceAccount,TaintNodesByCondition",
    "--service-cluster-ip-range=10.96.0.0/12,fd00:10:96::/112",
    "--endpoint-reconciler-type=none",
  ];
}

async function controllerFlags(
  directory: string,
  authority: CertificateAuthority,
  url: string,
): Promise<string[]> {
  const facts = {
    server: url,
    authority: authority.certificate,
    tokenFile: "",
    token: ADMIN_TOKEN,
    client: () => authority.client("admin", ["system:masters"]),
  };
  const kubeconfig = writeKubeconfig(`${directory}/controllers.kubeconfig`, facts, { token: true });
  return [
    `--kubeconfig=${kubeconfig}`,
    `--bind-address=${HOST}`,
    `--secure-port=${await freePort()}`,
    "--leader-elect=false",
    "--controllers=deployment-controller,replicaset-controller,endpointslice-controller",
  ];
}
