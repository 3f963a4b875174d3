// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { test } from "node:test";
import {
  CompiledNode,
  NODE_TIMEOUT_MS,
  type NodeErrorCode,
  NodeWatch,
  nodeIps,
  type WatchedNode,
  waitForNode,
} from "../../../src/daemon/node-watch.js";
import type { NodeInfo, Snapshot } from "../../../src/model/types.js";
import type { NodeState } from "../../../src/source/kube/kube-source.js";
import type { AppError } from "../../../src/util/errors.js";
import { silentLogger } from "../../../src/util/log.js";
import type { Timers } from "../../../src/util/timers.js";
import { cidr, ip } from "../../fixtures/objects.js";

const info = (addresses: readonly string[], podCIDRs: readonly string[] = []): NodeInfo => ({
  name: "node-a",
  zone: "",
  addresses: addresses.map(ip),
  podCIDRs: podCIDRs.map(cidr),
});
const there = (node: NodeInfo): NodeState => ({ info: node, exists: true, deleted: false, eligible: true });
const NOT_YET: NodeState = { info: info([]), exists: false, deleted: false, eligible: false };

class FakeNode implements WatchedNode {
  node: NodeState = NOT_YET;
  readonly #listeners = new Set<(state: NodeState) => void>();

  onNode(listener: (state: NodeState) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  get listeners(): number {
    return this.#listeners.size;
  }

  is(state: NodeState): void {
    this.node = state;
    for (const listener of this.#listeners) listener(state);
  }
}

/** One timer at a time, which the test fires. */
function oneTimer() {
  const timer = { milliseconds: 0, cancelled: false, fire: (): void => assert.fail("no timer") };
  const timers: Timers = {
    now: () => 0,
    epoch: () => 0,
    after: (milliseconds, callback) => {
      Object.assign(timer, { milliseconds, fire: callback });
      return () => {
        timer.cancelled = true;
      };
    },
  };
  return { timer, timers };
}

function gate(source: FakeNode, needsPodCidrs = false, signal = new AbortController().signal) {
  const { timer, timers } = oneTimer();
  const lastError = (): string => "connect ECONNREFUSED";
  const found = waitForNode(source, { needsPodCidrs, lastError, log: silentLogger, timers }, signal);
  return { timer, found };
}

test("waitForNode() resolves when the Node exists with an address, and lets go of everything (1.8)", async () => {
  const source = new FakeNode();
  const { found, timer } = gate(source);
  source.is(there(info([])));
  const node = info(["10.0.0.1"]);
  source.is(there(node));
  assert.equal(await found, node);
  assert.equal(source.listeners, 0);
  assert.ok(timer.cancelled);
});

test("waitForNode() waits for podCIDRs where the detector needs them (1.8)", async () => {
  const source = new FakeNode();
  source.node = there(info(["10.0.0.1"]));
  const { found } = gate(source, true);
  const node = info(["10.0.0.1"], ["10.244.1.0/24"]);
  source.is(there(node));
  assert.equal(await found, node);
});

test("waitForNode() gives up after five minutes, with the last error of the API server (1.8)", async () => {
  const { found, timer } = gate(new FakeNode());
  assert.equal(timer.milliseconds, NODE_TIMEOUT_MS);
  assert.equal(timer.milliseconds, 300_000);
  timer.fire();
  await assert.rejects(found, {
    code: "E_NODE_MISSING",
    message: /Node node-a does not exist.* given up after 300 s; the last error: connect ECONNREFUSED/,
  });
});

test("waitForNode() says what a Node lacks that is there", async () => {
  const source = new FakeNode();
  source.node = there(info([]));
  const first = gate(source);
  first.timer.fire();
  await assert.rejects(first.found, { code: "E_NODE_WITHOUT_ADDRESS", message: /has no InternalIP/ });
  source.node = there(info(["10.0.0.1"]));
  const second = gate(source, true);
  second.timer.fire();
  await assert.rejects(second.found, { code: "E_NODE_WITHOUT_POD_CIDR", message: /no spec\.podCIDRs/ });
});

test("waitForNode() ends with the signal", async () => {
  const controller = new AbortController();
  const source = new FakeNode();
  const { found } = gate(source, false, controller.signal);
  controller.abort(new Error("stopped"));
  await assert.rejects(found, /stopped/);
  assert.equal(source.listeners, 0);
});

test("nodeIps() are the first address and the first of the other family (13.1)", () => {
  const texts = (addresses: readonly string[]): string[] => nodeIps(info(addresses)).map(({ text }) => text);
  assert.deepEqual(texts([]), []);
  assert.deepEqual(texts(["10.0.0.1", "10.0.0.2"]), ["10.0.0.1"]);
  assert.deepEqual(texts(["fd00::1", "fd00::2", "10.0.0.1", "10.0.0.2"]), ["fd00::1", "10.0.0.1"]);
});

/** Codes of the ends that these states bring. */
function ends(started: NodeInfo, states: readonly NodeState[], podCidrsMatter = false): NodeErrorCode[] {
  const codes: NodeErrorCode[] = [];
  const onEnd = ({ code }: AppError<NodeErrorCode>): void => void codes.push(code);
  const watch = new NodeWatch({ started, podCidrsMatter, log: silentLogger, onEnd });
  for (const state of states) watch.look(state);
  return codes;
}

test("NodeWatch ends the agent once when the Node's own addresses are others, or it is deleted (1.16)", () => {
  const started = info(["10.0.0.1", "10.0.0.2", "fd00::1"]);
  const same = there(info(["10.0.0.1", "10.0.0.9", "fd00::1"]));
  assert.deepEqual(ends(started, [same]), [], "only the first of each family counts");
  assert.deepEqual(ends(started, [there(info(["10.0.0.1"]))]), ["E_NODE_ADDRESSES_CHANGED"]);
  assert.deepEqual(ends(started, [there(info(["fd00::1", "10.0.0.1"]))]), ["E_NODE_ADDRESSES_CHANGED"]);
  const gone: NodeState = { info: started, exists: false, deleted: true, eligible: false };
  assert.deepEqual(ends(started, [gone, gone, there(info(["10.9.9.9"]))]), ["E_NODE_DELETED"]);
});

test("NodeWatch goes on when the Node has no address for a while (1.16)", () => {
  const started = info(["10.0.0.1"]);
  assert.deepEqual(ends(started, [there(info([])), there(started)]), []);
  assert.deepEqual(ends(started, [there(info([])), there(info(["10.0.0.2"]))]), ["E_NODE_ADDRESSES_CHANGED"]);
});

test("NodeWatch cares for podCIDRs with detector NodeCIDR only (1.16)", () => {
  const started = info(["10.0.0.1"], ["10.244.1.0/24"]);
  const other = there(info(["10.0.0.1"], ["10.244.2.0/24"]));
  assert.deepEqual(ends(started, [other]), []);
  assert.deepEqual(ends(started, [other], true), ["E_NODE_POD_CIDRS_CHANGED"]);
});

const snapshotOf = (node: NodeInfo): Snapshot => ({
  services: new Map(),
  slices: new Map(),
  node,
  serviceCIDRs: [],
});

test("CompiledNode leaves the Node as it is without bindAddress, and keeps addresses that have gone for a while", () => {
  const compiled = new CompiledNode(null);
  const first = snapshotOf(info(["10.0.0.1"]));
  assert.equal(compiled.in(first), first);
  const without = compiled.in(snapshotOf(info([])));
  assert.deepEqual(
    without.node.addresses.map(({ text }) => text),
    ["10.0.0.1"],
  );
});

test("CompiledNode puts bindAddress before the Node's addresses, in one object as long as nothing changes (13.2)", () => {
  const compiled = new CompiledNode(ip("192.0.2.9"));
  const node = info(["10.0.0.1", "fd00::1", "192.0.2.9"]);
  const first = compiled.in(snapshotOf(node));
  assert.deepEqual(
    first.node.addresses.map(({ text }) => text),
    ["192.0.2.9", "10.0.0.1", "fd00::1"],
  );
  assert.equal(compiled.in(snapshotOf(node)).node, first.node);
});
