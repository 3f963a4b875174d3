// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { test } from "node:test";
import { findCgroup2 } from "../../../src/native/paths.js";

const V1 = "24 20 0:30 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu";

test("findCgroup2 finds the mount of a unified and of a hybrid host, and none where there is none", () => {
  const unified = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate";
  const hybrid = "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw";
  assert.equal(findCgroup2(unified), "/sys/fs/cgroup");
  assert.equal(findCgroup2(`${V1}\n${hybrid}\n`), "/sys/fs/cgroup/unified");
  assert.equal(findCgroup2(`${V1}\n`), null);
  assert.equal(findCgroup2(""), null);
});

test("findCgroup2 prefers a mount of the whole hierarchy to one of a part, as containers have it", () => {
  const part = "50 40 0:26 /kubepods/pod1 /sys/fs/cgroup ro - cgroup2 cgroup rw";
  const whole = "51 40 0:26 / /host/sys\\040fs/cgroup rw - cgroup2 cgroup rw";
  assert.equal(findCgroup2(`${part}\n${whole}`), "/host/sys fs/cgroup");
  assert.equal(findCgroup2(part), "/sys/fs/cgroup");
});
