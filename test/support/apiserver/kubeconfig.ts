// SPDX-License-Identifier: Apache-2.0
/** Kubeconfig files. */
import { readFileSync, writeFileSync } from "node:fs";
import type { KeyPair } from "./certificates.js";

/** What a kubeconfig is to hold. Of the credentials any number may be given; none: nobody. */
export interface KubeconfigOptions {
  /** `true`: the file that the server keeps the token in. Written as kubeadm writes it. */
  readonly tokenFile?: string | true;
  /** `true`: the token of now, in the file itself. */
  readonly token?: string | true;
  /** "files": paths of certificate and key; "data": the bytes. */
  readonly clientCertificate?: "files" | "data";
  /** A command that prints an ExecCredential. */
  readonly exec?: {
    readonly command: string;
    readonly args?: readonly string[];
    readonly env?: Readonly<Record<string, string>>;
  };
  /** Another URL than the server's. */
  readonly server?: string;
  readonly proxyUrl?: string;
  /** The authority's certificate in the file itself instead of its path; "none": left out. */
  readonly authority?: "file" | "data" | "none";
  readonly tlsServerName?: string;
}

/** What the writer must know of the server. */
export interface KubeconfigFacts {
  readonly server: string;
  readonly authority: string;
  readonly tokenFile: string;
  readonly token: string;
  readonly client: () => KeyPair;
}

/** The kube-proxy ConfigMap's kubeconfig.conf of kubeadm, with these two paths and this server. */
export function kubeadmKubeconfig(server: string, authority: string, tokenFile: string): string {
  return `apiVersion: v1
kind: Config
clusters:
- cluster:
    certificate-authority: ${authority}
    server: ${server}
  name: default
contexts:
- context:
    cluster: default
    namespace: default
    user: default
  name: default
current-context: default
users:
- name: default
  user:
    tokenFile: ${tokenFile}
`;
}

/** Writes a kubeconfig. @returns its path */
export function writeKubeconfig(path: string, facts: KubeconfigFacts, options: KubeconfigOptions): string {
  const kubeadm = Object.keys(options).every((key) => key === "tokenFile" || key === "server");
  const text =
    kubeadm && options.tokenFile !== undefined
      ? kubeadmKubeconfig(
          options.server ?? facts.server,
          facts.authority,
          options.tokenFile === true ? facts.tokenFile : options.tokenFile,
        )
      : JSON.stringify(configOf(facts, options), null, 2);
  writeFileSync(path, text, { mode: 0o600 });
  return path;
}

function configOf(facts: KubeconfigFacts, options: KubeconfigOptions): object {
  const base64 = (file: string): string => readFileSync(file).toString("base64");
  const authority = {
    file: { "certificate-authority": facts.authority },
    data: { "certificate-authority-data": base64(facts.authority) },
    none: {},
  }[options.authority ?? "file"];
  const cluster = {
    server: options.server ?? facts.server,
    ...authority,
    ...(options.proxyUrl === undefined ? {} : { "proxy-url": options.proxyUrl }),
    ...(options.tlsServerName === undefined ? {} : { "tls-server-name": options.tlsServerName }),
  };
  return {
    apiVersion: "v1",
    kind: "Config",
    clusters: [{ name: "default", cluster }],
    contexts: [{ name: "default", context: { cluster: "default", user: "default" } }],
    "current-context": "default",
    users: [{ name: "default", user: userOf(facts, options, base64) }],
  };
}

function userOf(
  facts: KubeconfigFacts,
  options: KubeconfigOptions,
  base64: (file: string) => string,
): object {
  const user: Record<string, unknown> = {};
  if (options.tokenFile !== undefined)
    user.tokenFile = options.tokenFile === true ? facts.tokenFile : options.tokenFile;
  if (options.token !== undefined) user.token = options.token === true ? facts.token : options.token;
  if (options.clientCertificate !== undefined) {
    const { certificate, key } = facts.client();
    const asData = options.clientCertificate === "data";
    user[asData ? "client-certificate-data" : "client-certificate"] = asData
      ? base64(certificate)
      : certificate;
    user[asData ? "client-key-data" : "client-key"] = asData ? base64(key) : key;
  }
  if (options.exec !== undefined) {
    const { command, args = [], env = {} } = options.exec;
    user.exec = {
      apiVersion: "client.authentication.k8s.io/v1",
      interactiveMode: "Never",
      command,
      args,
      env: Object.entries(env).map(([name, value]) => ({ name, value })),
    };
  }
  return user;
}
