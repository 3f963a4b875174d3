// SPDX-License-Identifier: Apache-2.0
/** v1 Node. */
import type { Origin } from "../../model/types.js";
import type { Cidr } from "../../net/cidr.js";
import type { IpAddress } from "../../net/ip.js";
import type { Field } from "../fields.js";
import type { NodeObject } from "../objects.js";
import type { Metadata } from "./metadata.js";
import { readRanges } from "./service-cidr.js";

/** 1.17. */
const ZONE_LABEL = "topology.kubernetes.io/zone";

/** 13.1: all internal addresses in order, then the external ones; names do not count. */
export function projectNode(root: Field, metadata: Metadata, origin: Origin): NodeObject {
  const internal: IpAddress[] = [];
  const external: IpAddress[] = [];
  root.get("status").object();
  for (const item of root.get("status").get("addresses").items()) {
    if (!item.requiredObject()) continue;
    const type = item.get("type").string();
    if (type !== "InternalIP" && type !== "ExternalIP") continue;
    const field = item.get("address");
    if (!field.present) field.error("is missing");
    const address = field.address();
    if (address !== null) (type === "InternalIP" ? internal : external).push(address);
  }
  return {
    kind: "Node",
    namespace: "",
    name: metadata.name,
    origin,
    node: Object.freeze({
      name: metadata.name,
      zone: metadata.labels[ZONE_LABEL] ?? "",
      addresses: Object.freeze([...internal, ...external]),
      podCIDRs: readPodRanges(root.get("spec")),
    }),
  };
}

/** spec.podCIDRs, or spec.podCIDR where a hand-made manifest has only that (8.3). */
function readPodRanges(spec: Field): readonly Cidr[] {
  if (!spec.object()) return Object.freeze([]);
  const list = spec.get("podCIDRs").items();
  const single = spec.get("podCIDR");
  if (single.string() === "") return readRanges(list);
  const [first] = readRanges([single]);
  const ranges = readRanges(list);
  if (list.length === 0) return first === undefined ? ranges : Object.freeze([first]);
  if (first !== undefined && first.text !== ranges[0]?.text)
    single.warn("is not the first of podCIDRs, which counts");
  return ranges;
}
