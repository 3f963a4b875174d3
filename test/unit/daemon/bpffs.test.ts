// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { test } from "node:test";
import { type BpffsOwner, ownerOf, takenBy } from "../../../src/daemon/bpffs.js";

const SYS = "23 1 0:21 / /sys rw,nosuid shared:7 - sysfs sysfs rw";
const HOST = "30 23 0:29 / /sys/fs/bpf rw,nosuid shared:10 - bpf bpf rw,mode=700";
const PLAIN = "43 23 0:39 / /sys/fs/bpf rw,relatime - bpf bpf rw";
const SLAVE = "812 800 0:29 / /sys/fs/bpf rw master:10 - bpf bpf rw";
const PATH = "/sys/fs/bpf/portolan";

const owner = (mountinfo: string, initMountinfo: string | null, initialPids: boolean): BpffsOwner =>
  ownerOf(PATH, { mountinfo, initMountinfo, initialPids });

test("a program of the host has the host's bpf file system, also where process 1 may not be looked at", () => {
  assert.equal(owner(`${SYS}\n${HOST}`, `${SYS}\n${HOST}`, true), "host");
  assert.equal(owner(PLAIN, null, true), "host");
});

test("a bpf file system that process 1 of the host does not have ends with its mount namespace", () => {
  assert.equal(owner(PLAIN, `${SYS}\n${HOST}`, true), "container");
  assert.equal(owner(PLAIN, SYS, true), "container");
  // A bind mount elsewhere is the same file system.
  assert.equal(owner("43 23 0:29 / /sys/fs/bpf rw - bpf bpf rw", `${SYS}\n${HOST}`, true), "host");
});

test("in a container only a mount with a peer is surely the host's: process 1 is the container's", () => {
  assert.equal(owner(SLAVE, SLAVE, false), "host");
  assert.equal(owner(HOST, null, false), "host");
  assert.equal(owner(PLAIN, PLAIN, false), "unclear");
});

test("the mount that counts is the deepest that covers the path, and the later of two at one place", () => {
  const other = "90 1 0:77 / /sys/fs rw - bpf bpf rw";
  assert.equal(owner(`${HOST}\n${other}`, HOST, true), "host");
  assert.equal(owner(`${HOST}\n${PLAIN}`, HOST, true), "container", "a private one over the host's");
  assert.equal(owner("30 23 0:29 / /sys/fs/bpf2 rw - bpf bpf rw", HOST, true), "unclear");
});

test("--init-only mounts over nothing but the kernel's own directory, which a hostPath volume hands in", () => {
  assert.equal(takenBy(SYS), null);
  assert.equal(takenBy(`${SYS}\n50 23 0:21 /fs/bpf /sys/fs/bpf rw shared:7 - sysfs sysfs rw`), null);
  assert.equal(takenBy(`${SYS}\n51 23 0:50 / /sys/fs/bpf rw - tmpfs tmpfs rw`), "tmpfs");
  assert.equal(takenBy(`${SYS}\n51 23 0:21 /kernel /sys/fs/bpf rw - sysfs sysfs rw`), "sysfs");
});
