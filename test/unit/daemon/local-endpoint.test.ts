// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { existsSync, rmSync, statSync } from "node:fs";
import { dirname } from "node:path";
import { test } from "node:test";
import type { AuditReport } from "../../../src/daemon/agent-audit.js";
import { AgentClient } from "../../../src/daemon/agent-client.js";
import { type AgentHeader, endpointPath, LocalEndpoint } from "../../../src/daemon/local-endpoint.js";
import type { Image } from "../../../src/image/types.js";
import { silentLogger } from "../../../src/util/log.js";
import { bigPort, imageOf } from "../../support/big-image.js";

const HEADER: AgentHeader = {
  version: 1,
  pid: 1,
  node: "n1",
  source: { kind: "manifests", paths: ["/m"] },
  newest: true,
  heldBack: false,
  interfaces: [{ ifindex: 5, name: "veth5", role: "pod" }],
  interfaceEntries: { "5": "00" },
  sockets: { mode: "full", cgroup: null },
  programs: [{ name: "ptl_pod_in", id: 7, tag: "aa" }],
};
const REPORT: AuditReport = { entries: { frontends4: 2 }, interfaces: 0, sockets: 1, pins: 0, failures: [] };

async function served(
  image: Image | null,
  use: (client: AgentClient, root: string) => Promise<void>,
): Promise<void> {
  const root = `/sys/fs/bpf/portolan-unit-${process.pid}`;
  const endpoint = new LocalEndpoint({
    bpfRoot: root,
    log: silentLogger,
    header: () => HEADER,
    compiled: () => image,
    source: async () => image,
    audit: async () => REPORT,
  });
  await endpoint.start();
  try {
    await use(new AgentClient(root), root);
  } finally {
    await endpoint.close();
    rmSync(dirname(endpointPath(root)), { recursive: true, force: true });
  }
}

test("LocalEndpoint tells root, and nobody else, what the agent has compiled, whole", async () => {
  const image = imageOf([bigPort(0, 3), bigPort(1, 0)]);
  await served(image, async (client, root) => {
    assert.equal(statSync(endpointPath(root)).mode & 0o777, 0o600);
    const state = await client.compiled();
    assert.deepEqual(state.header, HEADER);
    assert.deepEqual(state.image.servicePorts, image.servicePorts);
    assert.deepEqual((await client.source()).image.servicePorts, image.servicePorts);
    assert.deepEqual(await client.audit(), REPORT);
  });
});

test("an agent that has compiled nothing says so, and one that is not there has a hint", async () => {
  await served(null, async (client, root) => {
    await assert.rejects(client.compiled(), { code: "E_AGENT_NOT_READY" });
    assert.ok(existsSync(endpointPath(root)));
  });
  const silent = new AgentClient("/nowhere");
  await assert.rejects(silent.compiled(), {
    code: "E_AGENT_SILENT",
    hint: /Is it running, with this --bpf-root/,
  });
});
