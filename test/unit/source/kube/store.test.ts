// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import type { Problem } from "../../../../src/model/types.js";
import type { RawObject } from "../../../../src/source/kube/raw.js";
import { type Change, type Codec, ObjectStore } from "../../../../src/source/kube/store.js";
import { atOnce } from "../../../../src/util/slices.js";

interface Value {
  readonly text: string;
}

const problem = (object: string): Problem => ({
  severity: "error",
  origin: null,
  object,
  field: "",
  message: "bad",
});

const raw = (key: string, uid: string, resourceVersion: string, text: string): RawObject => ({
  key,
  uid,
  resourceVersion,
  value: { text },
});

function make(keepsLast = false): {
  store: ObjectStore<Value>;
  changes: string[];
  projected: () => number;
  told: () => number;
} {
  const changes: string[] = [];
  let projections = 0;
  let told = 0;
  const codec: Codec<Value> = {
    keepsLast,
    same: (a, b) => a.text === b.text,
    project({ key, value }) {
      projections += 1;
      const text = String(value.text);
      if (text === "bad") return { value: null, problems: [problem(key)], triggeredAt: 0 };
      return { value: { text }, problems: [], triggeredAt: 0 };
    },
  };
  const onChange = ({ key, before, after }: Change<Value>): void =>
    void changes.push(`${key} ${before?.text ?? "-"} ${after?.text ?? "-"}`);
  const store = new ObjectStore(codec, onChange, () => {
    told += 1;
  });
  return { store, changes, projected: () => projections, told: () => told };
}

describe("ObjectStore", () => {
  it("tells what was added, changed and removed, and nothing of what came out equal", () => {
    const { store, changes } = make();
    store.put(raw("a", "1", "1", "x"));
    store.put(raw("a", "1", "2", "x"));
    store.put(raw("a", "1", "3", "y"));
    store.remove("a");
    store.remove("a");
    assert.deepEqual(changes, ["a - x", "a x y", "a y -"]);
  });

  it("takes another uid under the same name for a delete and an add, also when all else is equal", () => {
    const { store, changes } = make();
    store.put(raw("a", "1", "1", "x"));
    store.put(raw("a", "2", "2", "x"));
    assert.deepEqual(changes, ["a - x", "a x -", "a - x"]);
  });

  it("puts a list in the place of what there was, in one piece, projecting only what has another version", () => {
    const { store, changes, projected } = make();
    store.put(raw("gone", "1", "1", "x"));
    store.put(raw("same", "2", "1", "x"));
    store.put(raw("other", "3", "1", "x"));
    changes.length = 0;
    const list = store.replacement();
    list.put(raw("same", "2", "1", "x"));
    list.put(raw("other", "3", "5", "y"));
    list.put(raw("new", "4", "6", "z"));
    list.put(raw("brief", "5", "6", "z"));
    list.remove("brief");
    assert.equal(projected(), 6);
    assert.deepEqual(changes, [], "nothing yet");
    atOnce(list.commit());
    assert.deepEqual(changes, ["gone x -", "other x y", "new - z"]);
    assert.equal(store.size, 3);
  });

  it("drops what cannot be used any more, with a problem, and takes both back", () => {
    const { store, changes, told } = make();
    store.put(raw("a", "1", "1", "x"));
    store.put(raw("a", "1", "2", "bad"));
    assert.deepEqual(store.problems, [problem("a")]);
    assert.equal(store.problems, store.problems);
    store.put(raw("a", "1", "3", "x"));
    assert.deepEqual(store.problems, []);
    assert.deepEqual(changes, ["a - x", "a x -", "a - x"]);
    assert.equal(told(), 2);
  });

  it("keeps the last usable state where that is asked for, with the problem", () => {
    const { store, changes } = make(true);
    store.put(raw("a", "1", "1", "x"));
    store.put(raw("a", "1", "2", "bad"));
    assert.deepEqual(changes, ["a - x"]);
    assert.equal(store.problems.length, 1);
    store.remove("a");
    assert.deepEqual(store.problems, []);
  });

  it("forgets the problems of a list that was given up", () => {
    const { store } = make();
    store.replacement().put(raw("never", "1", "1", "bad"));
    assert.equal(store.problems.length, 1);
    atOnce(store.replacement().commit());
    assert.deepEqual(store.problems, []);
  });
});
