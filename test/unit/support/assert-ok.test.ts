// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { test } from "node:test";
import "../../support/assert-ok.js";

/** What a failing look at a value throws. */
function thrownBy(look: () => void): Error & { code?: string; actual?: unknown } {
  try {
    look();
  } catch (error) {
    return error as Error;
  }
  throw new Error("nothing was thrown");
}

const none = (): unknown => undefined;

test("assert.ok() without a message fails with the value, the place, and without a look at the source", () => {
  const error = thrownBy(() => assert.ok(none()));
  assert.equal(error.message, "undefined is not truthy");
  assert.deepEqual([error.name, error.code, error.actual], ["AssertionError", "ERR_ASSERTION", undefined]);
  assert.match(String(error.stack?.split("\n")[1]), /assert-ok\.test\.ts/);
});

test("assert.ok() with a message is as it was, and what holds does not fail", () => {
  assert.equal(thrownBy(() => assert.ok(none(), "why")).message, "why");
  const own = new TypeError("own");
  assert.equal(
    thrownBy(() => assert.ok(none(), own)),
    own,
  );
  assert.ok("yes");
  assert.ok(1, "one");
});
