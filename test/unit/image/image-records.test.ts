// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import {
  imageOfRecords,
  type NodeRecord,
  nodeRecord,
  type ServicePortRecord,
  servicePortRecords,
} from "../../../src/image/image-records.js";
import { atOnce } from "../../../src/util/slices.js";
import { ImageBuilder, nodeSpec, portSpec } from "../../property/dataplane/images.js";

test("an image that was written as JSON and read again is the same", () => {
  fc.assert(
    fc.property(fc.array(portSpec, { maxLength: 4 }), nodeSpec, (specs, node) => {
      const builder = new ImageBuilder();
      for (const [i, spec] of specs.entries()) builder.set(i, spec);
      builder.setNode(node);
      const image = builder.build();
      const text = JSON.stringify([nodeRecord(image), ...servicePortRecords(image)]);
      const [first, ...ports] = JSON.parse(text) as [NodeRecord, ...ServicePortRecord[]];
      const read = atOnce(imageOfRecords(first, ports));
      const sorted = (ports_: typeof image.servicePorts) => new Map([...ports_].sort());
      assert.deepEqual(sorted(read.servicePorts), sorted(image.servicePorts));
      assert.deepEqual(
        [read.nodePortAddresses, read.serviceNetworks],
        [image.nodePortAddresses, image.serviceNetworks],
      );
    }),
    { numRuns: 50 },
  );
});

test("imageOfRecords() throws for what is no image", () => {
  const node: NodeRecord = { nodePortAddresses: ["10.0.0.300"], serviceNetworks: [] };
  assert.throws(() => atOnce(imageOfRecords(node, [])), /"10.0.0.300" is no IP address/);
  const none = { nodePortAddresses: [], serviceNetworks: [] };
  const port = { key: "a/b:c/ICMP", protocol: "ICMP" } as unknown as ServicePortRecord;
  assert.throws(() => atOnce(imageOfRecords(none, [port])), SyntaxError);
});
