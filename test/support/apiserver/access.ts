// SPDX-License-Identifier: Apache-2.0
/** Who may do what: bearer tokens, client certificates, and the two roles that the tests need. */
import { X509Certificate } from "node:crypto";
import type { IncomingMessage } from "node:http";
import type { TLSSocket } from "node:tls";
import type { Verb } from "./faults.js";
import type { Resource, ResourceName } from "./resources.js";
import { ApiError, unauthorized } from "./status.js";

/** "node-proxier" is the ClusterRole system:node-proxier (1.15); "admin" may do everything. */
export type Role = "node-proxier" | "admin";

export interface User {
  readonly name: string;
  readonly role: Role | null;
}

const NOBODY: User = { name: "system:anonymous", role: null };
const LIST_WATCH: readonly Verb[] = ["list", "watch"];
const RECORD: readonly Verb[] = ["create", "patch", "update"];
const NODE_PROXIER: Readonly<Record<ResourceName, readonly Verb[]>> = {
  services: LIST_WATCH,
  endpointslices: LIST_WATCH,
  servicecidrs: LIST_WATCH,
  nodes: ["get", "list", "watch"],
  events: RECORD,
  "events.events.k8s.io": RECORD,
};

/** The users that have a token, and those that a certificate names. */
export class Access {
  readonly #tokens = new Map<string, User>();
  readonly #authority: X509Certificate;

  /** `authority`: the certificate (PEM) that signs those of the users. */
  constructor(authority: string) {
    this.#authority = new X509Certificate(authority);
  }

  setToken(token: string, user: User): void {
    this.#tokens.set(token, user);
  }

  revoke(token: string): void {
    this.#tokens.delete(token);
  }

  /** @throws ApiError 401 for credentials that are not good. None at all: nobody, who may do nothing (403) */
  userOf(request: IncomingMessage): User {
    const [scheme, token = ""] = (request.headers.authorization ?? "").split(" ");
    if (scheme !== undefined && scheme !== "") {
      const user = scheme.toLowerCase() === "bearer" ? this.#tokens.get(token) : undefined;
      if (user === undefined) throw unauthorized();
      return user;
    }
    return certificateUser(request.socket as TLSSocket, this.#authority);
  }

  /** @throws ApiError 403 */
  check(user: User, verb: Verb, resource: Resource, namespace: string | undefined): void {
    if (user.role === "admin" || (user.role !== null && NODE_PROXIER[resource.name].includes(verb))) return;
    const scope = namespace === undefined ? "at the cluster scope" : `in the namespace "${namespace}"`;
    throw new ApiError(
      403,
      "Forbidden",
      `${resource.plural} is forbidden: User "${user.name}" cannot ${verb} resource "${resource.plural}" in API group "${resource.group}" ${scope}`,
      { details: { kind: resource.plural } },
    );
  }
}

function certificateUser(socket: TLSSocket, authority: X509Certificate): User {
  const certificate = socket.getPeerCertificate();
  if (certificate.subject === undefined) return NOBODY;
  if (socket.getPeerX509Certificate()?.verify(authority.publicKey) !== true) throw unauthorized();
  const { CN: name, O: organisations } = certificate.subject as { CN?: string; O?: string | string[] };
  const groups = [organisations ?? []].flat();
  const role = groups.includes("system:masters")
    ? "admin"
    : groups.includes("system:node-proxier")
      ? "node-proxier"
      : null;
  return { name: name ?? "", role: name === "system:kube-proxy" ? "node-proxier" : role };
}
