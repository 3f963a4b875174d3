// SPDX-License-Identifier: Apache-2.0
/** Kubernetes' own idea of an object: the types which the client library was generated with, field by field. */
import * as models from "@kubernetes/client-node";

interface Attribute {
  readonly name: string;
  readonly baseName: string;
  readonly type: string;
}
interface Model {
  getAttributeTypeMap?(): readonly Attribute[];
}

/** "v1" ServiceAccount is V1ServiceAccount, "rbac.authorization.k8s.io/v1" ClusterRole is V1ClusterRole. */
function modelName(apiVersion: string, kind: string): string {
  const version = apiVersion.split("/").at(-1) as string;
  return `${version[0]?.toUpperCase()}${version.slice(1)}${kind}`;
}

const modelOf = (name: string): Model | undefined => (models as unknown as Record<string, Model>)[name];

/** What is wrong with an object: fields that its kind does not have, and values of another type. One line for each. */
export function schemaProblems(object: object): readonly string[] {
  const { apiVersion, kind } = object as { apiVersion?: string; kind?: string };
  if (apiVersion === undefined || kind === undefined) return ["has no apiVersion or no kind"];
  const name = modelName(apiVersion, kind);
  return modelOf(name) === undefined ? [`${apiVersion} ${kind} is not known`] : check(object, name, kind);
}

function check(value: unknown, type: string, path: string): readonly string[] {
  const list = /^Array<(.*)>$/.exec(type)?.[1];
  if (list !== undefined) {
    if (!Array.isArray(value)) return [`${path} is no list`];
    return value.flatMap((item, i) => check(item, list, `${path}[${i}]`));
  }
  const map = /^\{ \[key: string\]: (.*); \}$/.exec(type)?.[1];
  if (map !== undefined) {
    if (typeof value !== "object" || value === null) return [`${path} is no map`];
    return Object.entries(value).flatMap(([key, item]) => check(item, map, `${path}.${key}`));
  }
  if (type === "any") return [];
  if (type === "IntOrString")
    return ["string", "number"].includes(typeof value) ? [] : [`${path} is no number`];
  const model = modelOf(type);
  if (model?.getAttributeTypeMap === undefined) return typeof value === type ? [] : [`${path} is no ${type}`];
  if (typeof value !== "object" || value === null) return [`${path} is no ${type}`];
  const attributes = model.getAttributeTypeMap();
  return Object.entries(value).flatMap(([key, item]) => {
    const known = attributes.find(({ baseName }) => baseName === key);
    return known === undefined
      ? [`${path}.${key} is no field of ${type}`]
      : check(item, known.type, `${path}.${key}`);
  });
}
