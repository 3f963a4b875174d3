// SPDX-License-Identifier: Apache-2.0
/** Label and field selectors as an API server reads them. */
import { badRequest } from "./status.js";

/** Decides on an object's labels. */
export type LabelSelector = (labels: Readonly<Record<string, string>>) => boolean;
/** One term of a field selector. */
export interface FieldTerm {
  readonly field: string;
  readonly value: string;
  readonly equal: boolean;
}

const EVERYTHING: LabelSelector = () => true;
const KEY = String.raw`(?:[a-zA-Z0-9.-]+\/)?[A-Za-z0-9](?:[\w.-]*[A-Za-z0-9])?`;
const VALUE = String.raw`(?:[A-Za-z0-9](?:[\w.-]*[A-Za-z0-9])?)?`;
const ABSENT = new RegExp(`^!\\s*(${KEY})$`);
const PRESENT = new RegExp(`^(${KEY})$`);
const COMPARED = new RegExp(`^(${KEY})\\s*(!=|==|=)\\s*(${VALUE})$`);
const AMONG = new RegExp(`^(${KEY})\\s+(in|notin)\\s*\\(([^()]*)\\)$`);

/**
 * `!key`, `key`, `key=value`, `key==value`, `key!=value`, `key in (a,b)`, `key notin (a,b)`, joined by commas. An object
 * without the key matches `!=` and `notin`, as in Kubernetes.
 *
 * @throws ApiError 400 for anything else
 */
export function parseLabelSelector(text: string): LabelSelector {
  const terms = splitOutsideParentheses(text).map((term) => labelTerm(term.trim(), text));
  return terms.length === 0 ? EVERYTHING : (labels) => terms.every((term) => term(labels));
}

function labelTerm(term: string, whole: string): LabelSelector {
  const absent = ABSENT.exec(term);
  if (absent) return (labels) => !Object.hasOwn(labels, absent[1] as string);
  const present = PRESENT.exec(term);
  if (present) return (labels) => Object.hasOwn(labels, present[1] as string);
  const compared = COMPARED.exec(term);
  if (compared) {
    const [, key, operator, value] = compared as unknown as [string, string, string, string];
    return operator === "!=" ? (labels) => labels[key] !== value : (labels) => labels[key] === value;
  }
  const among = AMONG.exec(term);
  if (!among)
    throw badRequest(`unable to parse requirement: ${JSON.stringify(term)} of ${JSON.stringify(whole)}`);
  const [, key, operator, list] = among as unknown as [string, string, string, string];
  const values = new Set(list.split(",").map((value) => value.trim()));
  return operator === "in"
    ? (labels) => Object.hasOwn(labels, key) && values.has(labels[key] as string)
    : (labels) => !Object.hasOwn(labels, key) || !values.has(labels[key] as string);
}

function splitOutsideParentheses(text: string): string[] {
  return text.trim() === "" ? [] : text.split(/,(?![^(]*\))/);
}

/**
 * `field=value`, `field==value`, `field!=value`, joined by commas.
 *
 * @param known the fields that this resource can be selected by
 * @throws ApiError 400 for anything else, and for an unknown field
 */
export function parseFieldSelector(text: string, known: readonly string[]): readonly FieldTerm[] {
  if (text.trim() === "") return [];
  return text.split(/(?<!\\),/).map((term) => {
    const match = /^([^=!]+)(!=|==|=)(.*)$/.exec(term.trim());
    if (!match) throw badRequest(`invalid selector: '${text}'; can't understand '${term}'`);
    const [, field, operator, value] = match as unknown as [string, string, string, string];
    if (!known.includes(field)) throw badRequest(`field label not supported: ${field}`);
    return { field, value: value.replace(/\\([,=\\])/g, "$1"), equal: operator !== "!=" };
  });
}
