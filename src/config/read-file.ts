// SPDX-License-Identifier: Apache-2.0
/**
 * kube-proxy's configuration file: a KubeProxyConfiguration, and after it, as a second document, our own settings. kube-proxy
 * reads the first document of a file and does not look at others, so that the file also serves it (docs/decisions/0012).
 */
import { type Document, isMap, LineCounter, parseAllDocuments } from "yaml";
import { KUBE_PROXY_FIELDS } from "./kube-proxy-settings.js";
import { PORTOLAN_SETTINGS } from "./portolan-settings.js";
import type { SettingProblem } from "./problem.js";
import { DocumentReader, type ReadDocument } from "./read-document.js";

export const KUBE_PROXY_KIND = {
  apiVersion: "kubeproxy.config.k8s.io/v1alpha1",
  kind: "KubeProxyConfiguration",
} as const;

export const PORTOLAN_KIND = {
  apiVersion: "portolan.dev/v1alpha1",
  kind: "PortolanConfiguration",
} as const;

export interface ReadFile {
  readonly kubeProxy: ReadDocument;
  readonly portolan: ReadDocument;
  readonly problems: readonly SettingProblem[];
}

interface TypeMeta {
  readonly apiVersion: string;
  readonly kind: string;
}

const NOTHING: ReadDocument = { values: new Map(), lines: new Map() };

/** Never throws: what is wrong is in `problems`. */
export function readConfigFile(text: string): ReadFile {
  const counter = new LineCounter();
  const problems: SettingProblem[] = [];
  const fail = (line: number | null, message: string, name: string | null = null): void => {
    problems.push({ severity: "error", code: "unreadable", name, line, message });
  };
  const documents = documentsOf(text, counter);
  for (const { errors } of documents) {
    const [first] = errors;
    if (first !== undefined) {
      fail(first.linePos?.[0].line ?? null, `is no YAML: ${first.message.split("\n")[0] ?? ""}`);
      return { kubeProxy: NOTHING, portolan: NOTHING, problems };
    }
  }
  const [first, ...others] = documents;
  const lineOf = (document: Document): number =>
    counter.linePos(document.contents?.range?.[0] ?? document.range?.[0] ?? 0).line;
  if (first === undefined) fail(null, "is empty");
  else if (!is(first, KUBE_PROXY_KIND)) fail(lineOf(first), wrongKind(first, KUBE_PROXY_KIND));
  const ours = others.filter((document) => is(document, PORTOLAN_KIND));
  for (const document of others.filter((each) => !ours.includes(each))) {
    const message = `a further document (${kindText(document)}) is ignored`;
    problems.push({
      severity: "warning",
      code: "unknown_field",
      name: null,
      line: lineOf(document),
      message,
    });
  }
  const [own, second] = ours;
  if (second !== undefined) fail(lineOf(second), `there is a second ${PORTOLAN_KIND.kind}`);
  const context = { counter, problems };
  return {
    kubeProxy: first === undefined || !is(first, KUBE_PROXY_KIND) ? NOTHING : read(first, KUBE_PROXY_FIELDS),
    portolan: own === undefined ? NOTHING : read(own, PORTOLAN_SETTINGS),
    problems,
  };

  function read(document: Document, settings: typeof KUBE_PROXY_FIELDS): ReadDocument {
    const { contents } = document;
    return isMap(contents) ? new DocumentReader(settings, document, context).read(contents) : NOTHING;
  }
}

/** YAML 1.1, as Kubernetes reads it; without those that hold nothing. */
function documentsOf(text: string, lineCounter: LineCounter): Document.Parsed[] {
  const all = parseAllDocuments(text, { version: "1.1", uniqueKeys: false, lineCounter, prettyErrors: true });
  return Array.isArray(all)
    ? all.filter(({ contents, errors }) => contents !== null || errors.length > 0)
    : [];
}

function typeMeta(document: Document): TypeMeta {
  const of = (name: string): string => {
    const value: unknown = isMap(document.contents) ? document.contents.get(name) : undefined;
    return typeof value === "string" ? value : "";
  };
  return { apiVersion: of("apiVersion"), kind: of("kind") };
}

function is(document: Document, { apiVersion, kind }: TypeMeta): boolean {
  const found = typeMeta(document);
  return found.apiVersion === apiVersion && found.kind === kind;
}

function kindText(document: Document): string {
  const { apiVersion, kind } = typeMeta(document);
  return apiVersion === "" && kind === ""
    ? "without apiVersion and kind"
    : `${apiVersion || "?"} ${kind || "?"}`;
}

function wrongKind(document: Document, { apiVersion, kind }: TypeMeta): string {
  const found = typeMeta(document);
  if (found.apiVersion === PORTOLAN_KIND.apiVersion) {
    return `the first document must be the ${kind}: kube-proxy reads no other`;
  }
  return `apiVersion and kind must be ${apiVersion} and ${kind}, not ${JSON.stringify(found.apiVersion)} and ${JSON.stringify(found.kind)}`;
}
