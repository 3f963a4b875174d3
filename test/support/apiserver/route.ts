// SPDX-License-Identifier: Apache-2.0
/** From a method and a path to what is asked for. */
import type { IncomingMessage } from "node:http";
import type { Answer } from "./answer.js";
import type { Verb } from "./faults.js";
import { apiVersionOf, RESOURCES } from "./resources.js";
import type { Target } from "./writes.js";

const PATH =
  /^\/(?:api\/(?<core>v1)|apis\/(?<group>[^/]+)\/(?<version>[^/]+))(?:\/namespaces\/(?<namespace>[^/]+))?\/(?<plural>[^/]+)(?:\/(?<name>[^/]+)(?:\/(?<sub>[^/]+))?)?$/;
const LONGEST_BODY = 4 * 1024 * 1024;

/** null: no resource that is served, or nothing that can be done with one. */
export function routeOf(method: string, url: URL): (Target & { readonly verb: Verb }) | null {
  const groups = PATH.exec(url.pathname)?.groups;
  if (groups === undefined) return null;
  const { core, group = "", version = core, plural, sub } = groups;
  const [namespace, name] = [groups.namespace, groups.name].map((text) =>
    text === undefined ? undefined : decodeURIComponent(text),
  );
  const resource = RESOURCES.find(
    (each) => each.group === group && each.version === version && each.plural === plural,
  );
  if (resource === undefined || (sub !== undefined && !(sub === "status" && resource.status))) return null;
  // One object of a resource with namespaces has one; an object without can have none.
  if (name !== undefined && resource.namespaced !== (namespace !== undefined)) return null;
  const verb = verbOf(method, name, url.searchParams);
  return verb === null ? null : { verb, resource, namespace, name, subresource: sub };
}

function verbOf(method: string, name: string | undefined, query: URLSearchParams): Verb | null {
  if (name === undefined) {
    if (method === "POST") return "create";
    if (method !== "GET") return null;
    return ["true", "1"].includes(query.get("watch") ?? "") ? "watch" : "list";
  }
  const verbs: Readonly<Record<string, Verb>> = {
    GET: "get",
    PUT: "update",
    PATCH: "patch",
    DELETE: "delete",
  };
  return verbs[method] ?? null;
}

/** What is there beside resources: health, version, and discovery (which kubectl needs). */
export function wellKnown(path: string, answer: Answer): void {
  const text = (status: number, body: string): void =>
    answer.json(status, body, { "content-type": "text/plain; charset=utf-8" });
  const json = discovery(path);
  if (["/healthz", "/livez", "/readyz"].includes(path)) text(200, "ok");
  else if (json === undefined) text(404, "404 page not found\n");
  else answer.json(200, JSON.stringify(json));
}

function discovery(path: string): object | undefined {
  if (path === "/version")
    return { major: "1", minor: "36", gitVersion: "v1.36.0-fixture", platform: "linux/amd64" };
  if (path === "/api") return { kind: "APIVersions", versions: ["v1"] };
  const grouped = [...new Set(RESOURCES.filter(({ group }) => group !== "").map(apiVersionOf))];
  if (path === "/apis") {
    const groups = grouped.map((groupVersion) => {
      const [name, version] = groupVersion.split("/");
      const preferred = { groupVersion, version };
      return { name, versions: [preferred], preferredVersion: preferred };
    });
    return { kind: "APIGroupList", apiVersion: "v1", groups };
  }
  const groupVersion = path.replace(/^\/apis?\//, "");
  const resources = RESOURCES.filter((resource) => apiVersionOf(resource) === groupVersion).map(
    ({ plural, kind, namespaced }) => ({
      name: plural,
      singularName: kind.toLowerCase(),
      namespaced,
      kind,
      verbs: ["create", "delete", "get", "list", "patch", "update", "watch"],
    }),
  );
  return resources.length === 0
    ? undefined
    : { kind: "APIResourceList", apiVersion: "v1", groupVersion, resources };
}

/** All of a request's body. @throws when it is longer than 4 MiB */
export async function readBody(request: IncomingMessage): Promise<string> {
  const parts: Buffer[] = [];
  let size = 0;
  for await (const part of request as AsyncIterable<Buffer>) {
    size += part.length;
    if (size > LONGEST_BODY) throw new Error("the request's body is too long");
    parts.push(part);
  }
  return Buffer.concat(parts).toString();
}
