// SPDX-License-Identifier: Apache-2.0
/** v1 Pod: what the endpointslice controller reads of it. */
import type { Origin } from "../../model/types.js";
import type { IpAddress } from "../../net/ip.js";
import { PROTOCOLS } from "../../net/port.js";
import type { Field } from "../fields.js";
import { describe, isPortName } from "../fields.js";
import type { PodObject, PodPort } from "../objects.js";
import { readEndpointAddress, readNodeName } from "./endpoint-slice.js";
import type { Metadata } from "./metadata.js";

const PHASES = ["Pending", "Running", "Succeeded", "Failed", "Unknown"] as const;

export function projectPod(root: Field, metadata: Metadata, origin: Origin): PodObject {
  const spec = root.get("spec");
  spec.object();
  const status = root.get("status");
  status.object();
  const phase = status.get("phase").oneOf(PHASES, "Running");
  return {
    kind: "Pod",
    namespace: metadata.namespace,
    name: metadata.name,
    origin,
    labels: metadata.labels,
    nodeName: readNodeName(spec.get("nodeName")),
    addresses: readPodAddresses(status),
    ready: readReady(status.get("conditions")),
    terminating: metadata.terminating,
    finished: phase === "Succeeded" || phase === "Failed",
    ports: readNamedPorts(spec),
  };
}

/** status.podIPs, or status.podIP where a hand-made manifest has only that. */
function readPodAddresses(status: Field): readonly IpAddress[] {
  const list = status.get("podIPs").items();
  const single = status.get("podIP");
  const addresses: IpAddress[] = [];
  const fields = list.map((item) => (item.requiredObject() ? item.get("ip") : item));
  if (fields.length === 0 && single.string() !== "") fields.push(single);
  for (const field of fields) {
    if (typeof field.value === "object" && field.present) continue;
    const address = readEndpointAddress(field, null);
    if (address === null) continue;
    if (addresses.some((other) => other.family === address.family)) {
      field.error(`is a second IPv${address.family} address; a Pod has one per family`);
    } else addresses.push(address);
  }
  if (list.length > 0 && single.string() !== "") {
    const first = single.address();
    if (first !== null && first.text !== addresses[0]?.text) single.error("must be the first of podIPs");
  }
  return Object.freeze(addresses);
}

/** The Ready condition. A manifest that says nothing about it means a Pod that works (as 3.1 has it for endpoints). */
function readReady(conditions: Field): boolean {
  for (const item of conditions.items()) {
    if (!item.requiredObject() || item.get("type").string() !== "Ready") continue;
    const status = item.get("status");
    if (!status.present) status.error("is missing");
    return status.oneOf(["True", "False", "Unknown"], "Unknown") === "True";
  }
  return true;
}

/** Named ports of containers, and of init containers that keep running beside them. */
function readNamedPorts(spec: Field): readonly PodPort[] {
  const sidecars = spec
    .get("initContainers")
    .items()
    .filter((container) => container.get("restartPolicy").value === "Always");
  const ports: PodPort[] = [];
  for (const container of [...spec.get("containers").items(), ...sidecars]) {
    if (!container.requiredObject()) continue;
    for (const item of container.get("ports").items()) {
      if (!item.requiredObject()) continue;
      const nameField = item.get("name");
      const name = nameField.string();
      if (name !== "" && !isPortName(name)) nameField.error(`${describe(name)} is no valid port name`);
      const number = item.get("containerPort");
      if (!number.present) number.error("is missing");
      const port = number.integer(1, 65535, 0);
      const protocol = item.get("protocol").oneOf(PROTOCOLS, "TCP");
      if (name !== "") ports.push(Object.freeze({ name, protocol, port }));
    }
  }
  return Object.freeze(ports);
}
