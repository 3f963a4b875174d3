// SPDX-License-Identifier: Apache-2.0
/** v1 Endpoints, made by hand behind a Service without a selector: mirrored as the endpointslicemirroring controller does. */
import type { Endpoint, EndpointSlice, Origin } from "../../model/types.js";
import type { Family, IpAddress } from "../../net/ip.js";
import type { Field } from "../fields.js";
import type { EndpointsObject } from "../objects.js";
import { readEndpointAddress, readNodeName, readSlicePorts } from "./endpoint-slice.js";
import type { Metadata } from "./metadata.js";

const SKIP_MIRROR_LABEL = "endpointslice.kubernetes.io/skip-mirror";
const LEADER_ANNOTATION = "control-plane.alpha.kubernetes.io/leader";

/** Null when the controller would not mirror it: `ignore` is told why. */
export function projectEndpoints(
  root: Field,
  metadata: Metadata,
  origin: Origin,
  ignore: (reason: string) => void,
): EndpointsObject | null {
  const { namespace, name } = metadata;
  const slices = root
    .get("subsets")
    .items()
    .flatMap((subset, index) => mirrorSubset(subset, index, metadata, origin));
  if (metadata.labels[SKIP_MIRROR_LABEL] === "true") {
    ignore(`its label ${SKIP_MIRROR_LABEL} says so`);
    return null;
  }
  if (root.get("metadata").get("annotations").get(LEADER_ANNOTATION).present) {
    ignore("it is a leader election record");
    return null;
  }
  return { kind: "Endpoints", namespace, name, origin, slices: Object.freeze(slices) };
}

/** One slice per family: a mirrored endpoint has one address and the Ready condition only. */
function mirrorSubset(subset: Field, index: number, metadata: Metadata, origin: Origin): EndpointSlice[] {
  if (!subset.requiredObject()) return [];
  const ports = readSlicePorts(subset.get("ports"));
  const endpoints = [
    ...readAddresses(subset.get("addresses"), true),
    ...readAddresses(subset.get("notReadyAddresses"), false),
  ];
  const families: readonly Family[] = [4, 6];
  return families.flatMap((family) => {
    const ofFamily = endpoints.filter((endpoint) => endpoint.address.family === family);
    if (ofFamily.length === 0) return [];
    return Object.freeze({
      namespace: metadata.namespace,
      // Zero-padded: slices are put in order by name, and that is to be the order of the subsets.
      name: `${metadata.name}-mirrored-${String(index).padStart(4, "0")}-ipv${family}`,
      serviceName: metadata.name,
      family,
      ports,
      endpoints: Object.freeze(ofFamily),
      origin,
    });
  });
}

function readAddresses(field: Field, ready: boolean): Endpoint[] {
  return field.items().flatMap((item) => {
    if (!item.requiredObject()) return [];
    const ip = item.get("ip");
    if (!ip.present) {
      ip.error("is missing");
      return [];
    }
    const address = readEndpointAddress(ip, null);
    const nodeName = readNodeName(item.get("nodeName"));
    return address === null ? [] : mirrored(address, nodeName, ready);
  });
}

function mirrored(address: IpAddress, nodeName: string | null, ready: boolean): Endpoint {
  return Object.freeze({
    address,
    nodeName,
    ready,
    serving: true,
    terminating: false,
    zoneHints: [],
    nodeHints: [],
  });
}
