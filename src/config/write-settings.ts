// SPDX-License-Identifier: Apache-2.0
/** Settings as the file that says them: for --write-config-to (12.4) and /configz (11.1). */
import { stringify } from "yaml";
import { formatDuration } from "./duration.js";
import type { KubeProxyConfiguration, PortolanConfiguration } from "./kube-proxy-configuration.js";
import { KUBE_PROXY_FIELDS } from "./kube-proxy-settings.js";
import { PORTOLAN_SETTINGS } from "./portolan-settings.js";
import { KUBE_PROXY_KIND, PORTOLAN_KIND } from "./read-file.js";
import type { Setting } from "./setting.js";
import { treeOf } from "./value-tree.js";

/** A KubeProxyConfiguration v1alpha1 as JSON has it: durations in Go's syntax, apiVersion and kind first. */
export function kubeProxyDocument(config: KubeProxyConfiguration): Readonly<Record<string, unknown>> {
  return { ...KUBE_PROXY_KIND, ...documentOf(KUBE_PROXY_FIELDS, config) };
}

/** Our own settings as a document. */
export function portolanDocument(config: PortolanConfiguration): Readonly<Record<string, unknown>> {
  return { ...PORTOLAN_KIND, ...documentOf(PORTOLAN_SETTINGS, config) };
}

/** Both documents, in the order that kube-proxy needs. */
export function writeSettings(settings: {
  readonly kubeProxy: KubeProxyConfiguration;
  readonly portolan: PortolanConfiguration;
}): string {
  const documents = [kubeProxyDocument(settings.kubeProxy), portolanDocument(settings.portolan)];
  // 1.1, as it is read: "on" and the like get quotes.
  return documents
    .map((document) => stringify(document, { version: "1.1", sortMapEntries: true }))
    .join("---\n");
}

function documentOf(
  settings: readonly (Setting & { readonly field: string })[],
  config: object,
): Readonly<Record<string, unknown>> {
  return treeOf(
    new Map(settings.map(({ field, kind }) => [field, written(kind, valueAt(config, field))] as const)),
  );
}

function valueAt(config: object, path: string): unknown {
  return path
    .split(".")
    .reduce<unknown>((node, name) => (node as Readonly<Record<string, unknown>>)[name], config);
}

function written(kind: Setting["kind"], value: unknown): unknown {
  const duration = kind === "duration" || kind === "duration?" || kind === "flush";
  return duration ? formatDuration(Number(value)) : value;
}
