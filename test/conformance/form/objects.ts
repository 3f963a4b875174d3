// SPDX-License-Identifier: Apache-2.0
/** Services, EndpointSlices and their changes, from a case's abbreviations. */
import { asList, type Fields, FormError, readFields, show } from "./fields.js";
import {
  type ChangeForm,
  type ConditionName,
  type EndpointForm,
  type IngressForm,
  type PortForm,
  PROTOCOLS,
  type ServiceChange,
  type ServiceForm,
  type SliceForm,
  type SlicePortForm,
} from "./types.js";

const CONDITIONS: readonly ConditionName[] = ["R", "nil", "NR", "S", "ST", "T"];

export function readService(value: unknown, where: string): ServiceForm {
  return readFields(value, where, (fields) => {
    const name = fields.requiredText("name");
    const ns = fields.text("ns");
    return { name, ...(ns === undefined ? {} : { ns }), ...readServiceFields(fields) };
  });
}

/** All of a Service but its name and namespace: what a change may set, too. */
function readServiceFields(fields: Fields): ServiceChange {
  const affinity = fields.take("affinity");
  return given({
    type: fields.text("type"),
    externalName: fields.text("externalName"),
    clusterIP: fields.flag("headless") === true ? "None" : fields.text("clusterIP"),
    clusterIPs: fields.texts("clusterIPs"),
    families: fields.texts("families"),
    ipFamilyPolicy: fields.text("ipFamilyPolicy"),
    eTP: fields.text("eTP"),
    iTP: fields.take("iTP") === null ? undefined : fields.text("iTP"),
    externalIPs: fields.texts("externalIPs"),
    lb: fields.each("lb", readIngress),
    lbIP: fields.text("lbIP") ?? fields.text("loadBalancerIP"),
    lbClass: fields.text("lbClass"),
    ranges: fields.texts("ranges"),
    affinity: affinity === undefined ? undefined : readAffinity(affinity, `${fields.where}.affinity`),
    hcPort: fields.integer("hcPort"),
    labels: fields.textMap("labels"),
    annotations: fields.textMap("annotations"),
    selector: fields.textMap("selector"),
    created: fields.text("created") ?? fields.text("creationTimestamp"),
    publishNotReady: fields.flag("publishNotReady"),
    allocateNodePorts: fields.flag("allocateNodePorts"),
    trafficDistribution: fields.text("trafficDistribution"),
    ports: fields.each("ports", readPort),
  });
}

/** A copy without the fields that are undefined, as exactOptionalPropertyTypes wants it. */
function given<T extends object>(value: T): { [K in keyof T]?: Exclude<T[K], undefined> } {
  const entries = Object.entries(value).filter(([, field]) => field !== undefined);
  return Object.fromEntries(entries) as { [K in keyof T]?: Exclude<T[K], undefined> };
}

function readPort(value: unknown, where: string): PortForm {
  return readFields(value, where, (fields) => {
    const name = fields.take("name");
    if (name !== undefined && name !== null && typeof name !== "string")
      fields.fail("name", "must be a text");
    const target = fields.take("targetPort");
    if (target !== undefined && typeof target !== "number" && typeof target !== "string")
      fields.fail("targetPort", "must be a number or a name");
    const more = given({
      name: name as string | null | undefined,
      nodePort: fields.integer("nodePort"),
      targetPort: target as number | string | undefined,
      appProtocol: fields.text("appProtocol"),
    });
    return {
      port: fields.requiredInteger("port"),
      proto: fields.oneOf("proto", PROTOCOLS) ?? "TCP",
      ...more,
    };
  });
}

/** `1.2.3.4`, or `{ip, hostname, ipMode}`. */
function readIngress(value: unknown, where: string): IngressForm {
  if (typeof value === "string") return { ip: value };
  return readFields(value, where, (fields) =>
    given({ ip: fields.text("ip"), hostname: fields.text("hostname"), ipMode: fields.text("ipMode") }),
  );
}

/** `{timeout: 60}`, a number of seconds, `ClientIP`, `None` or null. */
function readAffinity(value: unknown, where: string): number | "default" | null {
  if (value === null || value === "None" || value === false) return null;
  if (value === "ClientIP" || value === true) return "default";
  if (Number.isInteger(value)) return value as number;
  return readFields(value, where, (fields) => fields.integer("timeout") ?? "default");
}

export function readSlice(value: unknown, where: string): SliceForm {
  return readFields(value, where, (fields) => {
    const serviceName = fields.take("serviceName");
    if (serviceName !== undefined && serviceName !== null && typeof serviceName !== "string")
      fields.fail("serviceName", "must be a text or null");
    return {
      ...given({
        name: fields.text("name"),
        ns: fields.text("ns"),
        serviceName: serviceName as string | null | undefined,
      }),
      addressType: fields.text("addressType") ?? "IPv4",
      labels: fields.textMap("labels") ?? {},
      ports: fields.each("ports", readSlicePort) ?? [],
      endpoints: fields.each("ep", readEndpoint) ?? [],
    };
  });
}

/** `[name, port, protocol]`; any of them may be null. */
export function readSlicePort(value: unknown, where: string): SlicePortForm {
  const [name = null, port = null, proto = null, ...rest] = Array.isArray(value) ? value : [{}];
  const named = name === null || typeof name === "string";
  const numbered = port === null || Number.isInteger(port);
  const spoken = proto === null || PROTOCOLS.includes(proto);
  if (!named || !numbered || !spoken || rest.length > 0)
    throw new FormError(where, `must be [name, port, protocol], not ${show(value)}`);
  return { name, port, proto };
}

export function readEndpoint(value: unknown, where: string): EndpointForm {
  return readFields(value, where, readEndpointFields);
}

function readEndpointFields(fields: Fields): EndpointForm {
  const addresses = asList(fields.take("a") ?? fields.fail("a", "is missing"));
  if (!addresses.every((one) => typeof one === "string"))
    fields.fail("a", "must be an address or a list of them");
  const more = given({
    node: fields.take("n") === null ? undefined : fields.text("n"),
    zones: fields.texts("z"),
    nodes: fields.texts("h"),
  });
  const condition = fields.take("c") === null ? "nil" : (fields.oneOf("c", CONDITIONS) ?? "R");
  return { addresses: addresses as readonly string[], condition, ...more };
}

/** What one `change` says, in the order in which it is done. */
export function readChanges(
  value: unknown,
  where: string,
  readNode: (value: unknown, where: string) => object,
): ChangeForm[] {
  const all = asList(value).flatMap((one, index) =>
    readFields(one, Array.isArray(value) ? `${where}[${index}]` : where, (fields) => {
      const name = given({ name: fields.text("service") ?? fields.text("name") });
      const changes = [
        ...sliceChanges(fields),
        ...serviceChanges(fields, name),
        ...nodeChanges(fields, readNode),
      ];
      const set = readServiceFields(fields);
      if (Object.keys(set).length > 0) changes.push({ kind: "service", set, ...name });
      return changes;
    }),
  );
  if (all.length === 0) throw new FormError(where, "changes nothing");
  return all;
}

function serviceChanges(fields: Fields, name: { name?: string }): ChangeForm[] {
  const changes: ChangeForm[] = [];
  const unlabel = fields.take("unlabel");
  const labels = fields.textMap("label") ?? {};
  const removed = unlabel === undefined ? [] : asList(unlabel).map((key) => [String(key), null] as const);
  const all = { ...labels, ...Object.fromEntries(removed) };
  if (Object.keys(all).length > 0) changes.push({ kind: "label", labels: all, ...name });
  for (const key of asListOf(fields.take("deleteService")))
    changes.push({ kind: "deleteService", name: String(key) });
  for (const [i, one] of asListOf(fields.take("addService")).entries())
    changes.push({ kind: "addService", service: readService(one, `${fields.where}.addService[${i}]`) });
  const svc = fields.nested("svc", (inner) => {
    const which = given({ name: inner.text("name") });
    return { kind: "service" as const, set: readServiceFields(inner), ...name, ...which };
  });
  return svc === undefined ? changes : [...changes, svc];
}

function sliceChanges(fields: Fields): ChangeForm[] {
  const changes: (ChangeForm | undefined)[] = [];
  const each = (key: string, read: (fields: Fields, slice: { slice?: string }) => ChangeForm): void => {
    for (const [i, one] of asListOf(fields.take(key)).entries())
      changes.push(
        readFields(one, `${fields.where}.${key}[${i}]`, (inner) =>
          read(inner, given({ slice: inner.text("slice") })),
        ),
      );
  };
  each("removeEndpoint", (f, slice) => ({ kind: "removeEndpoint", address: f.requiredText("a"), ...slice }));
  each("addEndpoint", (f, slice) => ({ kind: "addEndpoint", endpoint: readEndpointFields(f), ...slice }));
  each("setEndpoint", (f, slice) => {
    const endpoint = readEndpointFields(f);
    return { kind: "setEndpoint", address: endpoint.addresses[0] ?? "", endpoint, ...slice };
  });
  each("replaceEndpoints", (f, slice) => ({
    kind: "replaceEndpoints",
    endpoints: f.each("ep", readEndpoint) ?? f.fail("ep", "is missing"),
    ...slice,
  }));
  each("slicePorts", (f, slice) => ({
    kind: "slicePorts",
    ports: f.each("ports", readSlicePort) ?? f.fail("ports", "is missing"),
    ...slice,
  }));
  each("sliceLabels", (f, slice) => ({
    kind: "sliceLabels",
    labels: (f.take("labels") ?? {}) as Record<string, string | null>,
    ...slice,
  }));
  for (const key of ["deleteSlice", "removeSlice"])
    for (const one of asListOf(fields.take(key))) changes.push({ kind: "deleteSlice", name: String(one) });
  for (const [i, one] of asListOf(fields.take("addSlice")).entries())
    changes.push({ kind: "addSlice", slice: readSlice(one, `${fields.where}.addSlice[${i}]`) });
  return changes.filter((change) => change !== undefined);
}

function nodeChanges(fields: Fields, readNode: (value: unknown, where: string) => object): ChangeForm[] {
  const changes: ChangeForm[] = [];
  const node = fields.take("node");
  if (node !== undefined) changes.push({ kind: "node", set: readNode(node, `${fields.where}.node`) });
  const zone = fields.take("zone");
  if (zone !== undefined) changes.push({ kind: "node", set: { zone: zone === null ? "" : String(zone) } });
  if (fields.flag("removeTaint") === true) changes.push({ kind: "node", set: { taints: [] } });
  const taint = fields.take("addTaint");
  if (taint !== undefined)
    changes.push({ kind: "node", set: readNode({ taints: asList(taint) }, `${fields.where}.addTaint`) });
  return changes;
}

/** Absent: nothing; one value or a list of them. */
function asListOf(value: unknown): readonly unknown[] {
  return value === undefined ? [] : asList(value);
}
