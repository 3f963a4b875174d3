// SPDX-License-Identifier: Apache-2.0
/**
 * Objects with one revision counter over all resources and a log of the last changes: what etcd and the watch cache are to an
 * API server. States of the past can be read as far back as the log goes; before that everything is 410.
 */
import { randomUUID } from "node:crypto";
import { isDeepStrictEqual } from "node:util";
import type { KubeObject } from "../manifests.js";
import { apiVersionOf, type Resource, type ResourceName, type StoredObject } from "./resources.js";
import { ApiError, badRequest, expired } from "./status.js";

/** One state of one object. */
export class Stored {
  readonly key: string;
  readonly revision: number;
  readonly object: StoredObject;
  /** As JSON, with kind and apiVersion: how watches and single reads have it. */
  readonly text: string;
  readonly #head: number;

  constructor(resource: Resource, key: string, revision: number, object: StoredObject) {
    this.key = key;
    this.revision = revision;
    this.object = object;
    const head = `{"kind":"${resource.kind}","apiVersion":"${apiVersionOf(resource)}",`;
    const { kind: _kind, apiVersion: _apiVersion, ...rest } = object;
    this.text = head + JSON.stringify(rest).slice(1);
    this.#head = head.length;
  }

  /** Without kind and apiVersion: how lists have it. */
  get itemText(): string {
    return `{${this.text.slice(this.#head)}`;
  }
}

export interface Change {
  readonly type: "added" | "modified" | "deleted";
  readonly revision: number;
  readonly resource: ResourceName;
  /** Of a deletion: the last state, with the revision of the deletion. */
  readonly now: Stored;
  readonly before: Stored | undefined;
}

interface Written {
  readonly metadata: {
    readonly uid?: string;
    readonly resourceVersion?: string;
    readonly creationTimestamp?: string;
  };
}

/** Options of the store. */
export interface StoreOptions {
  /** How many changes can be watched from; older ones are compacted away. @default 100,000 */
  readonly window?: number | undefined;
  /**
   * The first revision. The default makes them get one digit longer soon, so that who compares them as strings fails.
   * @default 9,980
   */
  readonly firstRevision?: number | undefined;
}

export const keyOf = (object: {
  readonly metadata: { readonly name: string; readonly namespace?: string };
}): string =>
  object.metadata.namespace === undefined
    ? object.metadata.name
    : `${object.metadata.namespace}/${object.metadata.name}`;

export class Store {
  #revision: number;
  #compacted: number;
  readonly #window: number;
  readonly #objects = new Map<ResourceName, Map<string, Stored>>();
  readonly #sorted = new Map<ResourceName, { readonly revision: number; readonly list: readonly Stored[] }>();
  #log: Change[] = [];
  readonly #listeners = new Set<() => void>();

  constructor(options: StoreOptions = {}) {
    this.#revision = options.firstRevision ?? 9_980;
    this.#compacted = this.#revision - 1;
    this.#window = options.window ?? 100_000;
  }

  /** The revision of the last change. */
  get revision(): number {
    return this.#revision;
  }

  /** Nothing before this revision can be read or watched. */
  get compacted(): number {
    return this.#compacted;
  }

  onChange(listener: () => void): void {
    this.#listeners.add(listener);
  }

  get(resource: Resource, key: string): Stored | undefined {
    return this.#of(resource).get(key);
  }

  /** All objects as they were at a revision, sorted by key. @throws ApiError 410 when that is compacted */
  at(resource: Resource, revision: number): readonly Stored[] {
    if (revision < this.#compacted) throw expired("The resourceVersion for the provided list is too old.");
    const cached = this.#sorted.get(resource.name);
    if (cached?.revision === revision) return cached.list;
    const states = new Map(this.#of(resource));
    for (let i = this.#log.length - 1; i >= 0; i--) {
      const change = this.#log[i] as Change;
      if (change.revision <= revision) break;
      if (change.resource !== resource.name) continue;
      if (change.before === undefined) states.delete(change.now.key);
      else states.set(change.now.key, change.before);
    }
    const list = [...states.values()].sort((a, b) => (a.key < b.key ? -1 : a.key > b.key ? 1 : 0));
    this.#sorted.set(resource.name, { revision, list });
    return list;
  }

  /** The changes after a revision, up to another, in order. @throws ApiError 410 when some of them are compacted */
  since(revision: number, upTo: number): readonly Change[] {
    if (revision < this.#compacted)
      throw expired(`too old resource version: ${revision} (${this.#compacted})`);
    const first = this.#position(revision);
    return this.#log.slice(first, this.#position(upTo));
  }

  create(resource: Resource, given: KubeObject): Stored {
    const { metadata: meta, ...rest } = JSON.parse(JSON.stringify(given)) as StoredObject;
    if (meta.resourceVersion) throw badRequest("resourceVersion should not be set on objects to be created");
    if (resource.namespaced !== (meta.namespace !== undefined))
      throw badRequest(`${resource.plural} ${resource.namespaced ? "need a" : "have no"} namespace`);
    const key = keyOf({ metadata: meta });
    if (this.#of(resource).has(key))
      throw new ApiError(409, "AlreadyExists", `${resource.plural} "${meta.name}" already exists`);
    const metadata = {
      ...meta,
      uid: randomUUID(),
      creationTimestamp: meta.creationTimestamp ?? new Date().toISOString().replace(/\.\d+Z$/, "Z"),
    };
    return this.#write(resource, key, { ...rest, metadata } as StoredObject, "added");
  }

  /**
   * Replaces an object. Without a change nothing is written, as in etcd.
   *
   * @throws ApiError 404, or 409 when `given` names another resourceVersion or uid than the stored one has
   */
  update(resource: Resource, given: KubeObject): Stored {
    const key = keyOf(given);
    const before = this.#existing(resource, key);
    const written = (given as unknown as Written).metadata;
    const old = before.object.metadata;
    if (written.resourceVersion && written.resourceVersion !== old.resourceVersion)
      throw conflict(
        resource,
        given.metadata.name,
        "the object has been modified; please apply your changes to it",
      );
    if (written.uid && written.uid !== old.uid)
      throw conflict(
        resource,
        given.metadata.name,
        `Precondition failed: UID in precondition: ${written.uid}`,
      );
    const object = JSON.parse(JSON.stringify(given)) as StoredObject;
    const metadata = {
      ...object.metadata,
      uid: old.uid,
      creationTimestamp: old.creationTimestamp,
      ...(old.deletionTimestamp === undefined ? {} : { deletionTimestamp: old.deletionTimestamp }),
      resourceVersion: old.resourceVersion,
    };
    if (old.deletionTimestamp !== undefined && !metadata.finalizers?.length)
      return this.#remove(resource, before);
    const next = { ...object, metadata };
    return isDeepStrictEqual(next, before.object) ? before : this.#write(resource, key, next, "modified");
  }

  /** Deletes an object, or marks it when it has finalizers. @throws ApiError 404, or 409 when `uid` is another one's */
  delete(resource: Resource, key: string, uid?: string): Stored {
    const before = this.#existing(resource, key);
    const { metadata } = before.object;
    if (uid !== undefined && uid !== metadata.uid)
      throw conflict(resource, metadata.name, `Precondition failed: UID in precondition: ${uid}`);
    if (!metadata.finalizers?.length) return this.#remove(resource, before);
    if (metadata.deletionTimestamp !== undefined) return before;
    const deletionTimestamp = new Date().toISOString().replace(/\.\d+Z$/, "Z");
    return this.#write(
      resource,
      key,
      { ...before.object, metadata: { ...metadata, deletionTimestamp } },
      "modified",
    );
  }

  /** Forgets all states before a revision. */
  compact(revision: number = this.#revision): void {
    if (revision > this.#revision) throw new Error(`revision ${revision} is not there yet`);
    if (revision <= this.#compacted) return;
    this.#log.splice(0, this.#position(revision));
    this.#compacted = revision;
    this.#sorted.clear();
  }

  /** Counts on without a change of any object, as when something else in the cluster is written. */
  advance(by = 1): void {
    this.#revision += by;
    for (const listener of this.#listeners) listener();
  }

  #existing(resource: Resource, key: string): Stored {
    const found = this.#of(resource).get(key);
    if (found === undefined)
      throw new ApiError(404, "NotFound", `${resource.plural} "${key.split("/").at(-1)}" not found`);
    return found;
  }

  #remove(resource: Resource, before: Stored): Stored {
    return this.#write(resource, before.key, before.object, "deleted");
  }

  #write(resource: Resource, key: string, object: StoredObject, type: Change["type"]): Stored {
    const revision = ++this.#revision;
    const metadata = { ...object.metadata, resourceVersion: String(revision) };
    const now = new Stored(resource, key, revision, { ...object, metadata });
    const objects = this.#of(resource);
    const before = objects.get(key);
    if (type === "deleted") objects.delete(key);
    else objects.set(key, now);
    this.#log.push({ type, revision, resource: resource.name, now, before });
    // Not one by one: taking from an array's front costs its length.
    if (this.#log.length >= this.#window * 1.1 + 1)
      this.compact((this.#log[this.#log.length - this.#window - 1] as Change).revision);
    for (const listener of this.#listeners) listener();
    return now;
  }

  #of(resource: Resource): Map<string, Stored> {
    let objects = this.#objects.get(resource.name);
    if (objects === undefined) {
      objects = new Map();
      this.#objects.set(resource.name, objects);
    }
    return objects;
  }

  /** Index of the first change after a revision. */
  #position(revision: number): number {
    let low = 0;
    let high = this.#log.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.#log[middle] as Change).revision <= revision) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

function conflict(resource: Resource, name: string, why: string): ApiError {
  return new ApiError(
    409,
    "Conflict",
    `Operation cannot be fulfilled on ${resource.plural} "${name}": ${why}`,
  );
}
