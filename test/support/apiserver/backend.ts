// SPDX-License-Identifier: Apache-2.0
/** API servers that the agent's tests run against: the fixture, and a real one where there is one. */
import { existsSync } from "node:fs";
import type { KubeObject } from "../manifests.js";
import { ApiClient } from "./client.js";
import { FakeApi } from "./fake-api.js";
import { RealApi } from "./real-api.js";

export interface ApiBackend {
  /** Where it listens. */
  readonly host: string;
  readonly port: number;
  /** May do everything. */
  readonly admin: ApiClient;
  /** A directory that goes with the server. */
  readonly directory: string;
  /** Writes a kubeconfig of kubeadm's form for the user of kube-proxy. @returns its path */
  kubeconfig(server: string): string;
  /** Who watches from before now, or goes on with a page from before now, may get 410. */
  compact(): Promise<void>;
  close(): Promise<void>;
}

/** An API server to test against, started when it is needed. */
export interface BackendChoice {
  readonly name: string;
  readonly start: () => Promise<ApiBackend>;
}

const FILES = ["etcd", "kube-apiserver"] as const;

/**
 * The fixture always; the real one when KUBEBUILDER_ASSETS names a directory with etcd and kube-apiserver.
 *
 * @throws when the variable is set and they are not there: who sets it wants it to be run
 */
export function backends(
  assets: string | undefined = process.env.KUBEBUILDER_ASSETS,
): readonly BackendChoice[] {
  const fixture = { name: "the fixture", start: startFixture };
  if (assets === undefined || assets === "") return [fixture];
  const missing = FILES.filter((file) => !existsSync(`${assets}/${file}`));
  if (missing.length > 0)
    throw new Error(`KUBEBUILDER_ASSETS=${assets} holds no ${missing.join(" and no ")}`);
  return [fixture, { name: "kube-apiserver", start: () => RealApi.start(assets) }];
}

/** What stands on the terminal when no real server was tried. */
export const NOT_REAL = `
  ┌──────────────────────────────────────────────────────────────────────────────────────┐
  │  NOT RUN AGAINST A REAL API SERVER: KUBEBUILDER_ASSETS is not set.                   │
  │  These tests have seen the fixture only. Set KUBEBUILDER_ASSETS to a directory with  │
  │  etcd and kube-apiserver (kube-controller-manager if there) to run them for real.    │
  └──────────────────────────────────────────────────────────────────────────────────────┘
`;

const SERVICE_CIDR: KubeObject = {
  apiVersion: "networking.k8s.io/v1",
  kind: "ServiceCIDR",
  metadata: { name: "kubernetes" },
  ...{ spec: { cidrs: ["10.96.0.0/12", "fd00:10:96::/112"] } },
};

async function startFixture(): Promise<ApiBackend> {
  const api = await FakeApi.start();
  api.addToken("admin", { name: "admin", role: "admin" });
  const admin = new ApiClient({ url: api.url, authority: api.authority.certificate, token: "admin" });
  await admin.create(SERVICE_CIDR); // a real one makes it from its flags
  return {
    host: "127.0.0.1",
    port: api.port,
    admin,
    directory: api.directory,
    kubeconfig: (server) => api.kubeconfig({ tokenFile: true, server }),
    compact: async () => api.compact(),
    close: async () => {
      admin.close();
      await api.close();
    },
  };
}
