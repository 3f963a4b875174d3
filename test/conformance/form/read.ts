// SPDX-License-Identifier: Apache-2.0
/** Case files: a YAML list of cases, and the fixture that they start from. */
import { existsSync, readdirSync, readFileSync, statSync } from "node:fs";
import { dirname, join } from "node:path";
import { parse } from "yaml";
import { canonical, parseSocket, socketText } from "./address.js";
import { type Fields, FormError, readFields, show } from "./fields.js";
import { readChanges, readService, readSlice } from "./objects.js";
import {
  type ConfigForm,
  type ConformanceCase,
  type Environment,
  type FlowForm,
  type HttpForm,
  type NodeForm,
  type Outcome,
  PROTOCOLS,
  type Round,
  type TaintForm,
  VERDICTS,
  type VerdictName,
} from "./types.js";

/** A case, or why it could not be read: that fails it, and no other one. */
export type ReadCase =
  | { readonly ok: true; readonly id: string; readonly title: string; readonly case: ConformanceCase }
  | {
      readonly ok: false;
      readonly id: string;
      readonly title: string;
      readonly file: string;
      readonly error: string;
    };

/** The ground when a directory has no fixture of its own. */
const GROUND: Environment = {
  node: {
    name: "node-a",
    zone: "zone-a",
    ips: ["192.168.0.2", "2001:db8::1"],
    extraLocalIPs: ["192.168.1.2", "127.0.0.1", "2001:db8:1::2", "::1"],
    labels: {},
    taints: [],
  },
  others: [
    { name: "node-b", zone: "zone-b" },
    { name: "node-c", zone: "zone-c" },
  ],
  config: {
    mode: "iptables",
    detectLocalMode: "ClusterCIDR",
    clusterCIDR: "10.0.0.0/8,fd00:10::/64",
    podCIDRs: [],
    bridgeInterface: "",
    interfaceNamePrefix: "",
    masqueradeAll: false,
    nodePortAddresses: [],
    localhostNodePorts: true,
    externalIPs: true,
    socketLB: undefined,
  },
  serviceCIDR: ["172.30.0.0/16", "fd00:172:30::/108"],
  senders: {
    pod: "10.0.0.2",
    host: "192.168.0.2",
    ext: "203.0.113.2",
    blocked: "203.0.113.130",
    pod6: "fd00:10::2",
    ext6: "2600:5200::1",
  },
  listening: [],
};

/**
 * Reads files, and all `*.yaml` and `*.yml` of directories, in the order of their names.
 *
 * @throws FormError for a file that is no list, FormError for a bad fixture, and what reading a file throws
 */
export function readCases(paths: readonly string[]): ReadCase[] {
  return paths.flatMap((path) => filesOf(path)).flatMap((file) => readFile(file));
}

function filesOf(path: string): string[] {
  if (!statSync(path).isDirectory()) return [path];
  const names = readdirSync(path).filter((name) => /\.ya?ml$/.test(name));
  return names.sort().map((name) => join(path, name));
}

function readFile(file: string): ReadCase[] {
  const ground = fixtureOf(dirname(file));
  return listOf(file)
    .filter((entry) => !isFixture(entry))
    .map((entry, index) => readEntry(entry, file, index, ground));
}

function listOf(file: string): readonly unknown[] {
  let value: unknown;
  try {
    value = parse(readFileSync(file, "utf8"), { uniqueKeys: true });
  } catch (error) {
    throw new FormError(file, `is no YAML: ${(error as Error).message}`);
  }
  if (!Array.isArray(value)) throw new FormError(file, "must be a list of cases");
  return value;
}

const isFixture = (entry: unknown): boolean =>
  typeof entry === "object" && entry !== null && "fixture" in entry;

/** The fixture that lies beside a file, laid over the built-in ground. */
function fixtureOf(directory: string): Environment {
  const file = ["fixture.yaml", "fixture.yml"]
    .map((name) => join(directory, name))
    .find((path) => existsSync(path));
  const entry = file === undefined ? undefined : listOf(file).find(isFixture);
  if (file === undefined || entry === undefined) return GROUND;
  return readFields(entry, file, (fields) => {
    fields.flag("fixture");
    return readEnvironment(fields, GROUND);
  });
}

function readEntry(entry: unknown, file: string, index: number, ground: Environment): ReadCase {
  const named = entry as { id?: unknown; title?: unknown } | null;
  const id = typeof named?.id === "string" ? named.id : `${file}[${index}]`;
  const title = typeof named?.title === "string" ? named.title : "";
  try {
    return { ok: true, id, title, case: readFields(entry, id, (fields) => readCase(fields, file, ground)) };
  } catch (error) {
    if (!(error instanceof FormError)) throw error;
    return { ok: false, id, title, file, error: error.message };
  }
}

function readCase(fields: Fields, file: string, ground: Environment): ConformanceCase {
  const id = fields.requiredText("id");
  const title = fields.text("title") ?? "";
  const environment = fields.nested("env", (env) => readEnvironment(env, ground)) ?? ground;
  const single = fields.take("svc");
  const several = fields.each("svcs", readService) ?? [];
  const services = single === undefined ? several : [readService(single, `${fields.where}.svc`), ...several];
  const slices = fields.each("slices", readSlice) ?? [];
  for (const slice of slices)
    if (slice.serviceName === undefined && services.length > 1)
      throw new FormError(`${fields.where}.slices`, "a slice must name its Service when there are several");
  const first = { changes: [], ...readRound(fields, environment) };
  const later = fields.each("then", (value, where) => readThen(value, where, environment)) ?? [];
  const story = {
    steps: textList(fields, "steps"),
    expect: textList(fields, "expect"),
    alsoCheck: textList(fields, "alsoCheck"),
  };
  return { id, title, file, environment, services, slices, rounds: [first, ...later], story };
}

/** A text, or a list of texts. */
function textList(fields: Fields, key: string): readonly string[] {
  const value = fields.take(key);
  if (value === undefined) return [];
  return (Array.isArray(value) ? value : [value]).map((one) => (typeof one === "string" ? one : show(one)));
}

function readThen(value: unknown, where: string, environment: Environment): Round {
  return readFields(value, where, (fields) => {
    const change = fields.take("change") ?? fields.fail("change", "is missing");
    const changes = readChanges(change, `${where}.change`, (node, at) =>
      readFields(node, at, readNodeFields),
    );
    return { changes, ...readRound(fields, environment) };
  });
}

function readRound(fields: Fields, environment: Environment): Omit<Round, "changes"> {
  return {
    flows: fields.each("flows", (value, where) => readFlow(value, where, environment)) ?? [],
    http: fields.each("http", readHttp) ?? [],
  };
}

function readFlow(value: unknown, where: string, environment: Environment): FlowForm {
  return readFields(value, where, (fields) => {
    const from = fields.requiredText("from");
    if (environment.senders[from] === undefined) fields.fail("from", `no sender is called "${from}"`);
    const dst = parseSocket(fields.requiredText("dst")) ?? fields.fail("dst", "must be address:port");
    const src = fields.text("src");
    if (src !== undefined && canonical(src) === undefined) fields.fail("src", "must be an address");
    const sport = fields.integer("sport");
    const ingressIf = fields.text("ingressIf");
    const modes = readModes(fields);
    const outcome = readOutcome(fields);
    if (outcome === undefined && modes === undefined)
      throw new FormError(where, "says nothing of the result: to, verdict or modes is missing");
    return {
      from,
      proto: fields.oneOf("proto", PROTOCOLS) ?? "TCP",
      dst: dst.address,
      port: dst.port,
      outcome,
      ...(src === undefined ? {} : { src: canonical(src) as string }),
      ...(sport === undefined ? {} : { sport }),
      ...(ingressIf === undefined ? {} : { ingressIf }),
      ...(modes === undefined ? {} : { modes }),
    };
  });
}

function readModes(fields: Fields): FlowForm["modes"] {
  return fields.nested("modes", (modes) => {
    const read = (key: string): Outcome => {
      const value = modes.take(key) ?? modes.fail(key, "is missing");
      if (typeof value !== "string")
        return readFields(value, `${modes.where}.${key}`, readOutcome) ?? modes.fail(key, "says nothing");
      if (!VERDICTS.includes(value as VerdictName)) modes.fail(key, `must be one of ${VERDICTS.join(", ")}`);
      return { kind: "verdict", verdict: value as VerdictName };
    };
    return { iptables: read("iptables"), nftables: read("nftables") };
  });
}

function readOutcome(fields: Fields): Outcome | undefined {
  const verdict = fields.oneOf("verdict", VERDICTS);
  const texts = fields.texts("to");
  const masq = fields.take("masq");
  const masqPer = fields.take("masqPer");
  const spread = fields.oneOf("spread", ["uniform"]);
  if (texts === undefined) {
    if (masq !== undefined || masqPer !== undefined || spread !== undefined)
      throw new FormError(fields.where, "masq, masqPer and spread need a `to`");
    return verdict === undefined ? undefined : { kind: "verdict", verdict };
  }
  if (verdict !== undefined) fields.fail("verdict", "and `to` exclude each other");
  const to = texts.map((text) => destination(text, fields, "to"));
  if (to.length === 0) fields.fail("to", "is empty");
  return { kind: "to", to, masq: masqOf(fields, to, masq, masqPer), uniform: spread === "uniform" };
}

function destination(text: string, fields: Fields, key: string): string {
  const socket = parseSocket(text) ?? fields.fail(key, `"${text}" is no address:port`);
  return socketText(socket.address, socket.port);
}

/** Absent means that nothing is said of it. */
function masqOf(
  fields: Fields,
  to: readonly string[],
  masq: unknown,
  masqPer: unknown,
): Readonly<Record<string, boolean | "any">> {
  const value = (one: unknown, key: string): boolean | "any" =>
    one === undefined || one === "any"
      ? "any"
      : typeof one === "boolean"
        ? one
        : fields.fail(key, "must be true, false or any");
  const all = Object.fromEntries(to.map((one) => [one, value(masq, "masq")]));
  if (masqPer === undefined) return all;
  return readFields(masqPer, `${fields.where}.masqPer`, (per) => {
    const own = Object.keys(masqPer as object).map((text) => {
      const key = destination(text, fields, "masqPer");
      if (!to.includes(key)) fields.fail("masqPer", `"${text}" is not in \`to\``);
      return [key, value(per.take(text), "masqPer")] as const;
    });
    return { ...all, ...Object.fromEntries(own) };
  });
}

function readHttp(value: unknown, where: string): HttpForm {
  return readFields(value, where, (fields) => {
    const connect = fields.oneOf("connect", ["refused", "ok"]);
    const count = fields.integer("localEndpoints");
    const json = fields.take("json");
    const addr = fields.text("addr");
    if (addr !== undefined && canonical(addr) === undefined) fields.fail("addr", "must be an address");
    const [from, status, body] = [fields.text("from"), fields.integer("status"), fields.text("body")];
    const counted = count === undefined ? {} : { localEndpoints: count };
    const wanted = json === undefined && count === undefined ? undefined : mergeJson(json, counted, fields);
    return {
      port: fields.requiredInteger("port"),
      path: fields.text("path") ?? "/",
      method: fields.text("method") ?? "GET",
      refused: connect === "refused",
      headers: scalarTexts(fields, "headers"),
      absentKeys: fields.texts("absentKeys") ?? [],
      ...(addr === undefined ? {} : { addr: canonical(addr) as string }),
      ...(from === undefined ? {} : { from }),
      ...(status === undefined ? {} : { status }),
      ...(body === undefined ? {} : { body }),
      ...(wanted === undefined ? {} : { json: wanted }),
    };
  });
}

function mergeJson(json: unknown, more: object, fields: Fields): unknown {
  if (json === undefined) return more;
  if (typeof json !== "object" || json === null) return fields.fail("json", "must be a mapping");
  return { ...json, ...more };
}

function scalarTexts(fields: Fields, key: string): Readonly<Record<string, string>> {
  const value = fields.take(key);
  if (value === undefined) return {};
  return readFields(value, `${fields.where}.${key}`, (inner) =>
    Object.fromEntries(Object.keys(value as object).map((name) => [name, String(inner.take(name))])),
  );
}

function readEnvironment(fields: Fields, ground: Environment): Environment {
  const node = fields.nested("node", readNodeFields) ?? {};
  const others = fields.each("others", (value, where) =>
    readFields(value, where, (one) => {
      const zone = one.text("zone");
      return { name: one.requiredText("name"), ...(zone === undefined ? {} : { zone }) };
    }),
  );
  const cidrs = fields.take("serviceCIDR");
  const host = fields.nested("host", (inner) => inner.each("listening", readListening));
  return {
    node: { ...ground.node, ...node },
    others: others ?? ground.others,
    config: fields.nested("config", (config) => readConfig(config, ground.config)) ?? ground.config,
    serviceCIDR: cidrs === undefined ? ground.serviceCIDR : textsOrCommas(cidrs, fields, "serviceCIDR"),
    senders: { ...ground.senders, ...(fields.textMap("senders") ?? {}) },
    listening: host ?? ground.listening,
  };
}

/** A port number (TCP, every address), or `{port, proto, addr}`. */
function readListening(value: unknown, where: string): Environment["listening"][number] {
  if (Number.isInteger(value)) return { port: value as number, proto: "TCP" };
  return readFields(value, where, (fields) => {
    const addr = fields.text("addr");
    return {
      port: fields.requiredInteger("port"),
      proto: fields.oneOf("proto", PROTOCOLS) ?? "TCP",
      ...(addr === undefined ? {} : { addr }),
    };
  });
}

function readNodeFields(fields: Fields): Partial<NodeForm> {
  const zone = fields.take("zone");
  const set = {
    name: fields.text("name"),
    zone: zone === undefined ? undefined : zone === null ? "" : String(zone),
    ips: fields.texts("ips"),
    extraLocalIPs: fields.texts("extraLocalIPs"),
    labels: fields.textMap("labels"),
    taints: fields.each("taints", readTaint),
  };
  return Object.fromEntries(Object.entries(set).filter(([, value]) => value !== undefined));
}

/** `KEY`, or `{key, value, effect}`. */
function readTaint(value: unknown, where: string): TaintForm {
  if (typeof value === "string") return { key: value, effect: "NoSchedule" };
  return readFields(value, where, (fields) => {
    const text = fields.text("value");
    return {
      key: fields.requiredText("key"),
      effect: fields.text("effect") ?? "NoSchedule",
      ...(text === undefined ? {} : { value: text }),
    };
  });
}

function readConfig(fields: Fields, ground: ConfigForm): ConfigForm {
  const list = (key: string): readonly string[] | undefined => {
    const value = fields.take(key);
    return value === undefined ? undefined : textsOrCommas(value, fields, key);
  };
  const cidr = list("clusterCIDR");
  return {
    mode: fields.oneOf("mode", ["iptables", "nftables"]) ?? ground.mode,
    detectLocalMode:
      fields.oneOf("detectLocalMode", [
        "ClusterCIDR",
        "NodeCIDR",
        "BridgeInterface",
        "InterfaceNamePrefix",
      ]) ?? ground.detectLocalMode,
    clusterCIDR: cidr === undefined ? ground.clusterCIDR : cidr.join(","),
    podCIDRs: list("podCIDRs") ?? ground.podCIDRs,
    bridgeInterface: fields.text("bridgeInterface") ?? ground.bridgeInterface,
    interfaceNamePrefix: fields.text("interfaceNamePrefix") ?? ground.interfaceNamePrefix,
    masqueradeAll: fields.flag("masqueradeAll") ?? ground.masqueradeAll,
    nodePortAddresses: list("nodePortAddresses") ?? ground.nodePortAddresses,
    localhostNodePorts: fields.flag("localhostNodePorts") ?? ground.localhostNodePorts,
    externalIPs: fields.flag("externalIPs") ?? ground.externalIPs,
    socketLB: fields.oneOf("socketLB", ["full", "host-only", "off"]) ?? ground.socketLB,
  };
}

/** A list of texts, or one text with commas. */
function textsOrCommas(value: unknown, fields: Fields, key: string): readonly string[] {
  if (value === null || value === "") return [];
  if (typeof value === "string") return value.split(",").map((one) => one.trim());
  return Array.isArray(value) && value.every((one) => typeof one === "string")
    ? value
    : fields.fail(key, "must be a text or a list of texts");
}
