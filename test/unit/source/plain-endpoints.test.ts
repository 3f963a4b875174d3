// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { test } from "node:test";
import { projectObject } from "../../../src/source/project/object.js";

const ORIGIN = { file: "test", line: null };

function project(addressType: string, endpoints: readonly unknown[]): ReturnType<typeof projectObject> {
  const labels = { "kubernetes.io/service-name": "web" };
  const metadata = { name: "web-1", namespace: "default", labels };
  const slice = {
    apiVersion: "discovery.k8s.io/v1",
    kind: "EndpointSlice",
    metadata,
    addressType,
    endpoints,
  };
  return projectObject(slice, ORIGIN);
}

/** What came of all endpoints but the last. */
function endpointsOf({ object, problems }: ReturnType<typeof projectObject>, but = 0): readonly unknown[] {
  assert.deepEqual(problems, [], "problems");
  assert.ok(object?.kind === "EndpointSlice", "a slice");
  const { endpoints } = object.slice;
  return endpoints.slice(0, endpoints.length - but);
}

/** Has hints: with it a slice is read field by field. */
const hinted = (address: string): unknown => ({ addresses: [address], hints: { forZones: [{ name: "a" }] } });

test("3.1, 3.3: endpoints that are read at once are those that are read field by field", () => {
  const of = (...addresses: string[]): readonly unknown[] => [
    { addresses: [addresses[0]] },
    { addresses: [addresses[1]], conditions: null, nodeName: null, hints: null },
    { addresses: [addresses[2]], conditions: {}, nodeName: "node-a.example" },
    { addresses: [addresses[3]], conditions: { ready: false, serving: true, terminating: true } },
    { addresses: [addresses[4]], conditions: { ready: null, serving: false }, zone: "a", targetRef: {} },
  ];
  const four = of("10.0.0.1", "10.0.0.2", "010.000.000.003", "10.100.20.255", "192.168.0.1");
  const six = of("fd00::1", "fd00:0::2", "FD00::3", "fd00::4", "fd00::5");
  for (const [type, list, other] of [
    ["IPv4", four, "10.9.9.9"],
    ["IPv6", six, "fd00::9"],
  ] as const) {
    const one = (item: unknown): readonly unknown[] => endpointsOf(project(type, [item]));
    const slowly = endpointsOf(project(type, [...list, hinted(other)]), 1);
    assert.deepEqual(list.flatMap(one), slowly, type);
  }
});

test("2.8: an endpoint that is not plain is told of as ever", () => {
  const messages: readonly (readonly [unknown, RegExp])[] = [
    [null, /is missing/],
    ["10.0.0.1", /must be an object/],
    [{ addresses: ["127.0.0.1"] }, /loopback/],
    [{ addresses: ["fd00::1"] }, /addressType is IPv4/],
    [{ addresses: ["10.0.0.256"] }, /must be an IP address/],
    [{ addresses: ["10.0.0.2"], nodeName: "No_Name" }, /no valid node name/],
    [{ addresses: ["10.0.0.2"], conditions: { ready: "yes" } }, /must be true or false/],
    [{ addresses: ["10.0.0.2"], conditions: [] }, /must be an object/],
  ];
  for (const [endpoint, message] of messages) {
    const { object, problems } = project("IPv4", [{ addresses: ["10.0.0.1"] }, endpoint]);
    assert.equal(object, null);
    assert.match(problems[0]?.field ?? "", /^endpoints\[1\]/);
    assert.match(problems[0]?.message ?? "", message);
  }
});

test("2.8: leading zeros are no part of an address's text", () => {
  const texts = (list: readonly unknown[]): readonly string[] =>
    list.map((endpoint) => (endpoint as { address: { text: string } }).address.text);
  const given = ["10.0.0.01", "00.1.2.3", "1.2.3.000", "0100.20.3.4"].map((text) => ({ addresses: [text] }));
  const read = texts(endpointsOf(project("IPv4", given)));
  assert.deepEqual(read, ["10.0.0.1", "0.1.2.3", "1.2.3.0", "100.20.3.4"]);
});
