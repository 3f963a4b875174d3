// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { test } from "node:test";
import { ApiAddress } from "../../../src/daemon/api-address.js";
import type { Snapshot } from "../../../src/model/types.js";
import { type Logger, silentLogger } from "../../../src/util/log.js";
import { cidr, ip, NODE, service } from "../../fixtures/objects.js";

const texts = (address: ApiAddress): string[] =>
  address.reserved.map(({ address: each, port, protocol }) => `${each?.text} ${port}/${protocol}`);

const never = async (host: string): Promise<readonly string[]> => assert.fail(host);

test("ApiAddress reserves the server's address and port, of which not even a NodePort may take clients", async () => {
  const address = new ApiAddress({ servers: ["https://192.0.2.1:6443"], log: silentLogger, resolve: never });
  assert.deepEqual(texts(address), ["192.0.2.1 6443/TCP"]);
  assert.equal(address.reserved[0]?.refusesNodePorts, true);
  assert.equal(await address.refresh(), false);
  const six = new ApiAddress({ servers: ["https://[fd00::1]/prefix"], log: silentLogger, resolve: never });
  assert.deepEqual(texts(six), ["fd00::1 443/TCP"]);
});

test("ApiAddress reserves all addresses of a name, and keeps them when it cannot be resolved", async () => {
  const answers = [["192.0.2.1", "fd00::1"], null, ["192.0.2.2"]];
  const address = new ApiAddress({
    servers: ["https://api.example:6443"],
    log: silentLogger,
    resolve: async () => answers.shift() ?? Promise.reject(new Error("EAI_AGAIN")),
  });
  assert.deepEqual(texts(address), []);
  assert.equal(await address.refresh(), true);
  const first = address.reserved;
  assert.deepEqual(texts(address), ["192.0.2.1 6443/TCP", "fd00::1 6443/TCP"]);
  assert.equal(await address.refresh(), false);
  assert.equal(address.reserved, first);
  assert.equal(await address.refresh(), true);
  assert.deepEqual(texts(address), ["192.0.2.2 6443/TCP"]);
});

test("ApiAddress says once, and loudly, that the API server is reached by a Service address that the agent serves", () => {
  const told: unknown[] = [];
  const log: Logger = { ...silentLogger, error: ({ code }) => told.push(code) };
  const snapshot: Snapshot = {
    services: new Map([["default/kubernetes", service("kubernetes", { clusterIPs: [ip("10.96.0.1")] })]]),
    slices: new Map(),
    node: NODE,
    serviceCIDRs: [cidr("10.100.0.0/16")],
  };
  const check = (server: string): void => {
    const address = new ApiAddress({ servers: [server], log, resolve: never });
    address.check(snapshot);
    address.check(snapshot);
  };
  check("https://192.0.2.1:6443");
  assert.deepEqual(told, []);
  check("https://10.96.0.1");
  check("https://10.100.7.7:443");
  assert.deepEqual(told, ["api_server_is_a_service", "api_server_is_a_service"]);
});
