// SPDX-License-Identifier: Apache-2.0
/** networking.k8s.io ServiceCIDR (1.6): where ClusterIPs come from. v1 and v1beta1 are alike. */
import type { Origin } from "../../model/types.js";
import type { Cidr } from "../../net/cidr.js";
import type { Field } from "../fields.js";
import type { ServiceCidrObject } from "../objects.js";
import type { Metadata } from "./metadata.js";

export function projectServiceCidr(root: Field, metadata: Metadata, origin: Origin): ServiceCidrObject {
  const spec = root.get("spec");
  spec.requiredObject();
  return {
    kind: "ServiceCIDR",
    namespace: "",
    name: metadata.name,
    origin,
    cidrs: readRanges(spec.get("cidrs").items()),
  };
}

/** Each readable range once; one that is not costs that entry only. */
export function readRanges(fields: readonly Field[]): readonly Cidr[] {
  const ranges: Cidr[] = [];
  for (const field of fields) {
    const range = field.range();
    if (range !== null && !ranges.some(({ text }) => text === range.text)) ranges.push(range);
  }
  return Object.freeze(ranges);
}
