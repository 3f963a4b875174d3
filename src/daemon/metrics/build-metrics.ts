// SPDX-License-Identifier: Apache-2.0
/** Who this is: kubernetes_build_info, kubernetes_feature_enabled (11.4) and our own version. */
import { Gauge, type Registry } from "prom-client";
import type { FeatureGate } from "../../config/feature-gates.js";

export interface BuildMetricsOptions {
  readonly registry: Registry;
  /** Of package.json. */
  readonly version: string;
  /** "v1.36.0": see setKubernetesVersion(). */
  readonly kubernetesVersion: string;
}

export class BuildMetrics {
  readonly #kubernetes: Gauge;
  readonly #features: Gauge<"name" | "stage">;

  constructor({ registry, version, kubernetesVersion }: BuildMetricsOptions) {
    const registers = [registry];
    this.#kubernetes = new Gauge({
      name: "kubernetes_build_info",
      help: "The Kubernetes release whose kube-proxy this stands in for: the API server's, once that is known",
      labelNames: [
        "major",
        "minor",
        "git_version",
        "git_commit",
        "git_tree_state",
        "build_date",
        "go_version",
        "compiler",
        "platform",
      ],
      registers,
    });
    this.setKubernetesVersion(kubernetesVersion);
    new Gauge({
      name: "portolan_build_info",
      help: "Portolan's own version, and Node's",
      labelNames: ["version", "node_version"],
      registers,
    }).set({ version, node_version: process.version }, 1);
    this.#features = new Gauge({
      name: "kubernetes_feature_enabled",
      help: "Feature gates that bear on a Service proxy, and those that were configured: 1 is enabled; stage is empty for GA, and where it is not known",
      labelNames: ["name", "stage"],
      registers,
    });
  }

  /** As GET /version of the API server says it: an alert about nodes of another release stays quiet then. */
  setKubernetesVersion(gitVersion: string): void {
    const [, major = "", minor = ""] = /^v(\d+)\.(\d+)/.exec(gitVersion) ?? [];
    this.#kubernetes.reset();
    this.#kubernetes.set(
      {
        major,
        minor,
        git_version: gitVersion,
        git_commit: "",
        git_tree_state: "",
        build_date: "",
        go_version: "",
        compiler: "",
        platform: `${process.platform}/${process.arch === "x64" ? "amd64" : process.arch}`,
      },
      1,
    );
  }

  setFeatures(features: readonly FeatureGate[]): void {
    this.#features.reset();
    for (const { name, stage, enabled } of features) this.#features.set({ name, stage }, Number(enabled));
  }
}
