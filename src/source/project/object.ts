// SPDX-License-Identifier: Apache-2.0
/** One untyped object to one of ours: which kind it is, whether it counts, and everything that is wrong with it. */
import type { Origin, Problem } from "../../model/types.js";
import { describe, Field, Report } from "../fields.js";
import type { Ignored, Projected, SourceObject } from "../objects.js";
import { projectSlice } from "./endpoint-slice.js";
import { projectEndpoints } from "./endpoints.js";
import type { Metadata } from "./metadata.js";
import { readableName, readMetadata } from "./metadata.js";
import { projectNode } from "./node.js";
import { projectPod } from "./pod.js";
import { projectService } from "./service.js";
import { projectServiceCidr } from "./service-cidr.js";

/** 1.1, 1.2: another proxy's Service. */
const PROXY_NAME_LABEL = "service.kubernetes.io/service-proxy-name";
/** 1.3. */
const HEADLESS_LABEL = "service.kubernetes.io/headless";

type Ignore = (reason: string) => void;

interface Kind {
  readonly apiVersion: string;
  /** Older versions with the same fields. */
  readonly alsoVersions?: readonly string[];
  readonly namespaced: boolean;
  project(root: Field, metadata: Metadata, origin: Origin, ignore: Ignore): SourceObject | null;
}

const KINDS: ReadonlyMap<string, Kind> = new Map<string, Kind>([
  ["Service", { apiVersion: "v1", namespaced: true, project: trackedService }],
  ["EndpointSlice", { apiVersion: "discovery.k8s.io/v1", namespaced: true, project: trackedSlice }],
  ["Endpoints", { apiVersion: "v1", namespaced: true, project: trackedEndpoints }],
  ["Pod", { apiVersion: "v1", namespaced: true, project: projectPod }],
  ["Node", { apiVersion: "v1", namespaced: false, project: projectNode }],
  [
    "ServiceCIDR",
    {
      apiVersion: "networking.k8s.io/v1",
      alsoVersions: ["networking.k8s.io/v1beta1"],
      namespaced: false,
      project: projectServiceCidr,
    },
  ],
]);

/** Whether objects of this kind have a namespace; so do those of unknown kinds, as far as messages are concerned. */
export function isNamespaced(kind: unknown): boolean {
  return typeof kind !== "string" || (KINDS.get(kind)?.namespaced ?? true);
}

function trackedService(
  root: Field,
  metadata: Metadata,
  origin: Origin,
  ignore: Ignore,
): SourceObject | null {
  const object = projectService(root, metadata, origin);
  if (metadata.labels[PROXY_NAME_LABEL] === undefined) return object;
  ignore(`its label ${PROXY_NAME_LABEL} gives it to another proxy (1.1)`);
  return null;
}

function trackedSlice(root: Field, metadata: Metadata, origin: Origin, ignore: Ignore): SourceObject | null {
  if (metadata.labels[HEADLESS_LABEL] === undefined) return projectSlice(root, metadata, origin, ignore);
  ignore(`its label ${HEADLESS_LABEL} says that no proxy uses it (1.3)`);
  return null;
}

function trackedEndpoints(
  root: Field,
  metadata: Metadata,
  origin: Origin,
  ignore: Ignore,
): SourceObject | null {
  const object = projectEndpoints(root, metadata, origin, ignore);
  if (metadata.labels[HEADLESS_LABEL] === undefined) return object;
  ignore(`its label ${HEADLESS_LABEL} goes to its slices, which no proxy uses (1.3)`);
  return null;
}

/** Never throws. An object with an error is left out whole; warnings leave it in. */
export function projectObject(value: unknown, origin: Origin): Projected {
  const report = new Report();
  const root = new Field(report, value);
  const kindName = root.get("kind").value;
  const kind = typeof kindName === "string" ? KINDS.get(kindName) : undefined;
  if (!root.requiredObject() || typeof kindName !== "string" || kindName === "") {
    if (root.object()) root.get("kind").error(`must name a kind of object, not ${describe(kindName)}`);
    return broken(report, origin, nameless(root));
  }
  const name = readableName(root, kind?.namespaced ?? true);
  const identity = name === null ? null : `${kindName} ${name}`;
  const label = identity ?? `${kindName} without a name`;
  const apiVersion = root.get("apiVersion").string();
  if (kind === undefined && refuseBrokenList(root, kindName)) return broken(report, origin, label);
  const meant = kind === undefined ? otherSpelling(kindName, apiVersion) : null;
  if (meant !== null) {
    root.get("kind").error(`must be ${meant}, not ${describe(kindName)}`);
    return broken(report, origin, label, name === null ? null : `${meant} ${name}`);
  }
  if (kind === undefined || isOtherGroup(apiVersion, kind.apiVersion)) {
    const reason = kind === undefined ? "no kind that a proxy reads" : `apiVersion ${describe(apiVersion)}`;
    return { object: null, problems: [], ignored: { origin, object: label, reason }, identity: null };
  }
  if (apiVersion !== kind.apiVersion && !kind.alsoVersions?.includes(apiVersion)) {
    root
      .get("apiVersion")
      .error(`must be ${kind.apiVersion} for kind ${kindName}, not ${describe(apiVersion || null)}`);
    return broken(report, origin, label, identity);
  }
  return projectKnown(root, kind, report, origin, label, identity);
}

function projectKnown(
  root: Field,
  kind: Kind,
  report: Report,
  origin: Origin,
  label: string,
  identity: string | null,
): Projected {
  const metadata = readMetadata(root, kind.namespaced);
  let ignored: Ignored | null = null;
  const object = kind.project(root, metadata, origin, (reason) => {
    ignored = { origin, object: label, reason };
  });
  if (report.failed) return broken(report, origin, label, identity);
  const problems = problemsOf(report, origin, label);
  return { object: object === null ? null : Object.freeze(object), problems, ignored, identity };
}

/**
 * A kind of the same name in somebody else's API group, such as serving.knative.dev's Service. Groups that are not
 * Kubernetes' own have a dot: "core/v1" is a mistake.
 */
function isOtherGroup(apiVersion: string, expected: string): boolean {
  const group = (text: string): string => (text.includes("/") ? text.slice(0, text.indexOf("/")) : "");
  return group(apiVersion).includes(".") && group(apiVersion) !== group(expected);
}

/** Lists are taken apart before; one that comes here cannot be, and every object in it would be missing without a word. */
function refuseBrokenList(root: Field, kindName: string): boolean {
  const meant = ["", ...KINDS.keys()]
    .map((name) => `${name}List`)
    .find((name) => name.toLowerCase() === kindName.toLowerCase());
  if (meant === undefined) return false;
  const items = root.get("items");
  if (meant !== kindName) root.get("kind").error(`must be ${meant}, not ${describe(kindName)}`);
  else if (Array.isArray(items.value)) root.error("is a list inside a list, which is not read");
  else items.items();
  return items.present;
}

/** The kind of ours that differs in capitals only: "service" is no other kind, it is a mistake. */
function otherSpelling(kindName: string, apiVersion: string): string | null {
  for (const [name, { apiVersion: expected }] of KINDS) {
    if (name.toLowerCase() === kindName.toLowerCase() && !isOtherGroup(apiVersion, expected)) return name;
  }
  return null;
}

function nameless(root: Field): string {
  const name = readableName(root, true);
  return name === null ? "" : `object ${name}`;
}

function broken(report: Report, origin: Origin, label: string, identity: string | null = null): Projected {
  return { object: null, problems: problemsOf(report, origin, label), ignored: null, identity };
}

function problemsOf(report: Report, origin: Origin, object: string): readonly Problem[] {
  const seen = new Set<string>();
  return report.problems.flatMap(({ severity, path, message }) => {
    const key = `${path}\n${message}`;
    if (seen.has(key)) return [];
    seen.add(key);
    return { severity, origin, object, field: path, message };
  });
}
