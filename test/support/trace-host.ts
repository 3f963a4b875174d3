// SPDX-License-Identifier: Apache-2.0
/*
 * A process on a test node that traces on demand: trace-host.ts PINS. It reads one JSON command a line and answers with one JSON
 * line, so that a test of hundreds of packets loads the twin once for each family.
 */
import { createHash } from "node:crypto";
import { createInterface } from "node:readline";
import { NativeLibrary } from "../../src/native/lib.js";
import { parseIp } from "../../src/net/ip.js";
import { traceJson } from "../../src/trace/json.js";
import type { Endpoint, TcpFlag, TraceProtocol } from "../../src/trace/packet.js";
import { Tracer } from "../../src/trace/trace.js";
import { errorMessage } from "../../src/util/errors.js";

interface TraceCommand {
  readonly what: "trace";
  readonly protocol: TraceProtocol;
  readonly src: string;
  readonly sport: number;
  readonly dst: string;
  readonly dport: number;
  readonly flags: readonly TcpFlag[];
  readonly from?: "pod" | "uplink" | "overlay" | "host";
  readonly interface?: string;
  readonly reply: boolean;
}

/** `maps`: a hash of each map's entries, sorted, and the counters by index. */
type Command = TraceCommand | { readonly what: "maps" };

const [pins = ""] = process.argv.slice(2);
const library = new NativeLibrary();
const maps = library.openPins(pins);
const tracers = new Map<4 | 6, Tracer>();

const endpoint = (text: string, port: number): Endpoint => {
  const address = parseIp(text);
  if (address === null) throw new TypeError(`no address: ${text}`);
  return { address, port };
};

async function trace(command: TraceCommand): Promise<object> {
  const { protocol, flags, from, reply } = command;
  const destination = endpoint(command.dst, command.dport);
  const { family } = destination.address;
  const tracer = tracers.get(family) ?? (await Tracer.open(library, maps, pins, family));
  tracers.set(family, tracer);
  const packet = { protocol, source: endpoint(command.src, command.sport), destination, flags };
  return traceJson(
    await tracer.run({
      packet,
      reply,
      ...(from === undefined ? {} : { from }),
      ...(command.interface === undefined ? {} : { interface: command.interface }),
    }),
  );
}

/** The order in which a hash gives its entries is not part of them. */
async function dumpMaps(): Promise<object> {
  const all: Record<string, string> = {};
  for (const name of maps.names) {
    const { count, keys, values } = await maps.dump(name);
    const [keySize, valueSize] = [keys.length / count || 0, values.length / count || 0];
    if (name === "counters") {
      all[name] = Buffer.from(values.subarray(0, 64 * valueSize)).toString("hex");
      continue;
    }
    const entries = Array.from({ length: count }, (_, i) => {
      const key = Buffer.from(keys.subarray(i * keySize, (i + 1) * keySize)).toString("hex");
      return `${key} ${Buffer.from(values.subarray(i * valueSize, (i + 1) * valueSize)).toString("hex")}`;
    });
    const hash = createHash("sha256").update(entries.sort().join("\n")).digest("hex");
    all[name] = `${count} entries, ${hash}`;
  }
  return all;
}

for await (const line of createInterface({ input: process.stdin })) {
  try {
    const command = JSON.parse(line) as Command;
    const answer = command.what === "trace" ? await trace(command) : await dumpMaps();
    process.stdout.write(
      `${JSON.stringify(answer, (_, v: unknown) => (typeof v === "bigint" ? Number(v) : v))}\n`,
    );
  } catch (error) {
    process.stdout.write(`${JSON.stringify({ error: errorMessage(error) })}\n`);
  }
}
for (const tracer of tracers.values()) tracer.close();
await maps.close();
