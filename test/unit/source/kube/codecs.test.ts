// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import {
  Names,
  nodeCodec,
  serviceCidrCodec,
  serviceCodec,
  sliceCodec,
} from "../../../../src/source/kube/codecs.js";
import { readObject } from "../../../../src/source/kube/raw.js";
import { type ResourceSpec, resourceSpecs } from "../../../../src/source/kube/resources.js";
import type { Codec } from "../../../../src/source/kube/store.js";
import { numbered, sliceOf } from "../../../contract/support/rig.js";

const specs = resourceSpecs("node-a");
const METADATA = { name: "web", namespace: "default", uid: "u", resourceVersion: "1" };

/** An object with whatever in the fields that are looked at, and beside them. */
function odd(spec: ResourceSpec): fc.Arbitrary<Record<string, unknown>> {
  const any = fc.jsonValue({ maxDepth: 3 }) as fc.Arbitrary<unknown>;
  const bag = (keys: readonly string[], of: fc.Arbitrary<unknown>): fc.Arbitrary<unknown> =>
    fc.oneof(any, fc.record(Object.fromEntries(keys.map((key) => [key, of])), { requiredKeys: [] }));
  const list = (of: fc.Arbitrary<unknown>): fc.Arbitrary<unknown> =>
    fc.oneof(any, fc.array(of, { maxLength: 3 }));
  const hints = bag(["forZones", "forNodes"], list(bag(["name"], any)));
  const endpoint = fc.oneof(
    any,
    fc.record({ addresses: list(any), nodeName: any, conditions: any, hints }, { requiredKeys: [] }),
  );
  return fc.record({
    apiVersion: fc.constant(spec.apiVersion),
    kind: fc.constant(spec.kind),
    metadata: fc
      .record({ annotations: any, labels: any, deletionTimestamp: any }, { requiredKeys: [] })
      .map((more) => ({ ...more, ...METADATA })),
    spec: bag(
      ["clusterIP", "clusterIPs", "ports", "taints", "podCIDRs", "cidrs", "type"],
      list(bag(["key", "name", "port"], any)),
    ),
    status: bag(["addresses", "loadBalancer"], list(bag(["type", "address", "ingress"], any))),
    addressType: fc.oneof(any, fc.constant("IPv4")),
    endpoints: list(endpoint),
    ports: list(bag(["name", "port", "protocol"], any)),
  });
}

describe("codecs", () => {
  const codecs: readonly [ResourceSpec, Codec<unknown>][] = [
    [specs.services, serviceCodec as Codec<unknown>],
    [specs.endpointslices, sliceCodec(new Names()) as Codec<unknown>],
    [specs.nodes, nodeCodec as Codec<unknown>],
    [specs.servicecidrs, serviceCidrCodec as Codec<unknown>],
  ];
  for (const [spec, codec] of codecs) {
    it(`never throw at a ${spec.kind}, whatever is in it, and find it equal to itself`, () => {
      fc.assert(
        fc.property(odd(spec), (object) => {
          const text = JSON.stringify(object);
          const read = (): unknown => codec.project(readObject(JSON.parse(text), spec, false)).value;
          const [one, other] = [read(), read()];
          assert.equal(one === null, other === null);
          if (one !== null) assert.equal(codec.same(one, other), true);
        }),
        { numRuns: 300 },
      );
    });
  }

  it("leave out what no proxy reads: labels, selectors, annotations", () => {
    const raw = readObject(
      {
        ...numbered(1, { app: "web" }),
        metadata: { ...METADATA, labels: { app: "web" }, annotations: { note: "long" } },
      },
      specs.services,
      false,
    );
    const { value } = serviceCodec.project(raw);
    assert.deepEqual(
      [value?.labels, value?.selector, value?.origin],
      [{}, null, { file: "api", line: null }],
    );
    const selected = readObject(
      {
        ...numbered(1),
        metadata: METADATA,
        spec: { ...(numbered(1) as unknown as { spec: object }).spec, selector: { app: "x" } },
      },
      specs.services,
      false,
    );
    assert.equal(
      serviceCodec.same(
        value as NonNullable<typeof value>,
        serviceCodec.project(selected).value as NonNullable<typeof value>,
      ),
      true,
    );
  });

  it("read the trigger time to the millisecond, and none where there is none that can be read", () => {
    const at = (trigger: string): number => {
      const object = sliceOf(1, 1, trigger);
      return sliceCodec(new Names()).project(
        readObject({ ...object, metadata: { ...METADATA, ...object.metadata } }, specs.endpointslices, false),
      ).triggeredAt;
    };
    assert.equal(at("2026-01-31T09:00:00.987654321Z"), Date.UTC(2026, 0, 31, 9, 0, 0, 987));
    assert.equal(at("yesterday"), 0);
  });
});
