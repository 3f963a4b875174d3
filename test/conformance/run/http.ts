// SPDX-License-Identifier: Apache-2.0
/** One HTTP request of a case. */
import { awakeNow } from "../../support/awake.js";
import { canonical, familyOf, isLoopback, socketText } from "../form/address.js";
import type { Environment, HttpForm } from "../form/types.js";
import type { Ground } from "../ground/ground.js";

/** A server opens and closes shortly after the sync that decides it; of time in which the machine runs. */
const SETTLE_MS = 5_000;
const PAUSE_MS = 50;

interface Response {
  readonly status: number;
  readonly headers: ReadonlyMap<string, string>;
  readonly body: string;
}

/** What is wrong with the answer (in the end); undefined: nothing. */
export async function checkHttp(
  ground: Ground,
  http: HttpForm,
  environment: Environment,
): Promise<string | undefined> {
  const end = awakeNow() + SETTLE_MS;
  for (;;) {
    const wrong = await attempt(ground, http, environment);
    if (wrong === undefined) return undefined;
    if (awakeNow() > end) return `${requestText(http, environment)}: ${wrong}`;
    await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
  }
}

function addressOf(http: HttpForm, { node }: Environment): string {
  return http.addr ?? canonical(node.ips[0] ?? "") ?? "127.0.0.1";
}

function requestText(http: HttpForm, environment: Environment): string {
  return `${http.method} http://${socketText(addressOf(http, environment), http.port)}${http.path}`;
}

async function attempt(
  ground: Ground,
  http: HttpForm,
  environment: Environment,
): Promise<string | undefined> {
  const dst = addressOf(http, environment);
  // Load balancers look from outside; loopback can be asked by the node only.
  const outside = http.from === undefined ? !isLoopback(dst) : !http.from.startsWith("host");
  const sender = familyOf(dst) === 4 ? environment.senders.ext : environment.senders.ext6;
  const src = outside && sender !== undefined ? canonical(sender) : undefined;
  const text = `${http.method} ${http.path} HTTP/1.1\r\nHost: ${socketText(dst, http.port)}\r\nConnection: close\r\n\r\n`;
  const answer = await ground
    .probe(outside ? "outside" : "node")
    .exchange(dst, http.port, Buffer.from(text), src);
  if ("error" in answer)
    return http.refused && answer.error === "ECONNREFUSED"
      ? undefined
      : `expected ${wanted(http)}, saw ${answer.error}`;
  if (http.refused) return "expected ECONNREFUSED, saw an answer";
  const response = parseResponse(answer.bytes.toString("utf8"));
  return response === undefined ? "the answer is no HTTP" : compare(http, response);
}

const wanted = (http: HttpForm): string => (http.refused ? "ECONNREFUSED" : `status ${http.status ?? "any"}`);

function parseResponse(text: string): Response | undefined {
  const [head = "", ...rest] = text.split("\r\n\r\n");
  const [first = "", ...lines] = head.split("\r\n");
  const status = /^HTTP\/1\.[01] (\d{3})/.exec(first)?.[1];
  if (status === undefined) return undefined;
  const headers = new Map(
    lines.map((line) => [
      line.slice(0, line.indexOf(":")).toLowerCase(),
      line.slice(line.indexOf(":") + 1).trim(),
    ]),
  );
  const raw = rest.join("\r\n\r\n");
  const chunked = headers.get("transfer-encoding")?.toLowerCase() === "chunked";
  return { status: Number(status), headers, body: chunked ? unchunk(raw) : raw };
}

function unchunk(raw: string): string {
  let body = "";
  let rest = raw;
  for (;;) {
    const size = Number.parseInt(rest, 16);
    const start = rest.indexOf("\r\n") + 2;
    if (!(size > 0)) return body;
    body += rest.slice(start, start + size);
    rest = rest.slice(start + size + 2);
  }
}

function compare(http: HttpForm, response: Response): string | undefined {
  if (http.status !== undefined && response.status !== http.status)
    return `expected status ${http.status}, saw ${response.status}`;
  for (const [name, value] of Object.entries(http.headers)) {
    const own = response.headers.get(name.toLowerCase());
    if (own !== value) return `expected header ${name}: ${value}, saw ${own ?? "none"}`;
  }
  if (http.body !== undefined && response.body !== http.body)
    return `expected body ${JSON.stringify(http.body)}, saw ${JSON.stringify(response.body)}`;
  return http.json === undefined && http.absentKeys.length === 0
    ? undefined
    : compareJson(http, response.body);
}

function compareJson(http: HttpForm, body: string): string | undefined {
  let json: unknown;
  try {
    json = JSON.parse(body);
  } catch {
    return `the body is no JSON: ${JSON.stringify(body)}`;
  }
  const extra = http.absentKeys.find((key) => typeof json === "object" && json !== null && key in json);
  if (extra !== undefined) return `the body has the key ${extra}`;
  return http.json === undefined ? undefined : difference(http.json, json, "body");
}

/** Where `own` lacks something of `wanted`; what else it has does not matter. */
export function difference(expected: unknown, own: unknown, where: string): string | undefined {
  if (typeof expected !== "object" || expected === null)
    return Object.is(expected, own)
      ? undefined
      : `expected ${where} to be ${JSON.stringify(expected)}, saw ${JSON.stringify(own)}`;
  if (typeof own !== "object" || own === null)
    return `expected ${where} to be an object, saw ${JSON.stringify(own)}`;
  for (const [key, value] of Object.entries(expected)) {
    const wrong = difference(value, (own as Record<string, unknown>)[key], `${where}.${key}`);
    if (wrong !== undefined) return wrong;
  }
  return undefined;
}
