// SPDX-License-Identifier: Apache-2.0
/** metadata: what every object has. */
import type { Field, Labels } from "../fields.js";
import { describe, isDnsLabel, isDnsSubdomain } from "../fields.js";

export interface Metadata {
  /** "default" when absent, "" for kinds without one. */
  readonly namespace: string;
  readonly name: string;
  readonly uid: string;
  readonly labels: Labels;
  /** "" when absent. */
  readonly creationTimestamp: string;
  readonly terminating: boolean;
}

export function readMetadata(root: Field, namespaced: boolean): Metadata {
  const field = root.get("metadata");
  field.requiredObject();
  const nameField = field.get("name");
  const name = nameField.string();
  if (name === "") {
    if (field.present) nameField.error("is missing");
  } else if (!isDnsSubdomain(name)) nameField.error(`${describe(name)} is no valid name`);
  const namespaceField = field.get("namespace");
  const namespace = namespaceField.string() || "default";
  if (!isDnsLabel(namespace)) namespaceField.error(`${describe(namespace)} is no valid namespace`);
  return {
    namespace: namespaced ? namespace : "",
    name,
    uid: field.get("uid").string(),
    labels: field.get("labels").labels(),
    creationTimestamp: readTime(field.get("creationTimestamp")),
    terminating: readTime(field.get("deletionTimestamp")) !== "",
  };
}

function readTime(field: Field): string {
  const text = field.string();
  if (text !== "" && !(/^\d{4}-\d\d-\d\d[Tt]/.test(text) && !Number.isNaN(Date.parse(text)))) {
    field.error(`must be a time such as 2026-01-31T08:00:00Z, not ${describe(text)}`);
  }
  return text;
}

/** The name of a broken object, as far as it can be read, for messages. */
export function readableName(root: Field, namespaced: boolean): string | null {
  const name = root.get("metadata").get("name").value;
  const namespace = root.get("metadata").get("namespace").value ?? "default";
  if (typeof name !== "string" || name === "" || name.length > 253) return null;
  if (!namespaced) return name;
  return typeof namespace === "string" && namespace.length <= 63 ? `${namespace}/${name}` : null;
}
