// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { test } from "node:test";
import { BackendFlag, BackendState } from "../../../src/abi/enums.gen.js";
import { readTables } from "../../../src/dataplane/view.js";
import { type AffinityRow, readAffinity } from "../../../src/dataplane/view-affinity.js";
import type { MapWrite } from "../../../src/native/kernel.js";
import { MemoryKernel } from "../../../src/native/memory.js";
import { cell, client, SERVICES_IN_MAPS } from "../../support/services-in-maps.js";

const SECOND = 1_000_000_000n;
const NOW = 10_000n * SECOND;
const CLIENT = "10.9.0.9";

async function rowsOf(writes: readonly MapWrite[], nowNs?: bigint): Promise<AffinityRow[]> {
  const kernel = new MemoryKernel({ maxEntries: { backends4: 50, backends6: 50, slots4: 50, slots6: 50 } });
  const { failure } = await kernel.apply([...SERVICES_IN_MAPS, ...writes]);
  assert.equal(failure, null);
  return await readAffinity(kernel, await readTables(kernel), nowNs === undefined ? {} : { nowNs });
}

/** Each against the Service with 600 s of affinity, whose frontends offer the Cluster set and the Local set. */
const CASES: readonly { readonly is: string; readonly when: string; readonly writes: readonly MapWrite[] }[] =
  [
    {
      is: "valid",
      when: "its time is not yet over",
      writes: [client(CLIENT, 0, 1, NOW - 600n * SECOND + 1n)],
    },
    {
      is: "expired",
      when: "its time is over to the nanosecond (5.5)",
      writes: [client(CLIENT, 0, 1, NOW - 600n * SECOND)],
    },
    {
      is: "valid",
      when: "its cell is of the same generation",
      writes: [client(CLIENT, 0, 2, NOW, 2)],
    },
    {
      is: "gone",
      when: "its cell holds a later backend (5.7)",
      writes: [client(CLIENT, 0, 2, NOW, 1)],
    },
    { is: "gone", when: "its cell is free", writes: [client(CLIENT, 0, 4, NOW, 5)] },
    {
      is: "gone",
      when: "its cell is another service port's",
      writes: [cell(5, "10.2.0.5", 1, { service: 1 }), client(CLIENT, 0, 5, NOW)],
    },
    {
      is: "draining",
      when: "its backend does not serve (5.6)",
      writes: [client(CLIENT, 0, 3, NOW, 4)],
    },
    {
      is: "unchosen",
      when: "its backend is in no set (5.3)",
      writes: [
        cell(5, "10.2.0.5", 1, { state: BackendState.BACKEND_LIVE, flags: BackendFlag.BACKEND_LOCAL }),
        client(CLIENT, 0, 5, NOW),
      ],
    },
    { is: "off", when: "the service port has no affinity (5.10)", writes: [client(CLIENT, 1, 1, NOW)] },
    { is: "off", when: "the service port is not there", writes: [client(CLIENT, 99, 1, NOW)] },
  ];

for (const { is, when, writes } of CASES) {
  test(`readAffinity() calls a client ${is} when ${when}`, async () => {
    const [row, ...more] = await rowsOf(writes, NOW);
    assert.equal(row?.state, is);
    assert.equal(more.length, 0);
  });
}

test("readAffinity() gives client, service port, backend and age, sorted by service, family and client", async () => {
  const rows = await rowsOf(
    [
      client("10.9.0.10", 0, 1, NOW - 90n * SECOND),
      client(CLIENT, 0, 3, NOW, 0),
      client("fd09::9", 0, 1, NOW),
      client("fd09::9", 1, 1, NOW),
    ],
    NOW,
  );
  assert.deepEqual(
    rows.map(({ service, client: from, family }) => `${service.name} ${family} ${from}`),
    ["dns 6 fd09::9", "web 4 10.9.0.9", "web 4 10.9.0.10", "web 6 fd09::9"],
  );
  const { service, ...row } = rows[2] as AffinityRow;
  assert.deepEqual(row, {
    family: 4,
    client: "10.9.0.10",
    backend: { address: "10.1.0.1", port: 8080 },
    cell: 1,
    generation: 0,
    ageSeconds: 90,
    timeoutSeconds: 600,
    state: "valid",
  });
  assert.deepEqual(service, { index: 0, namespace: "shop", name: "web", portName: "http", protocol: "TCP" });
  assert.equal(rows[1]?.backend, null, "the cell is of another generation");
});

test("readAffinity() measures from now by the kernel's monotonic clock", async () => {
  const [row] = await rowsOf([client(CLIENT, 0, 1, process.hrtime.bigint() - 5n * SECOND)]);
  assert.ok(row !== undefined && row.ageSeconds >= 5 && row.ageSeconds < 60, String(row?.ageSeconds));
});
