// SPDX-License-Identifier: Apache-2.0
import { parseIp } from "../../../net/ip.js";
import type { Origin } from "../../../trace/ground.js";
import {
  type Endpoint,
  hasFlags,
  type Packet,
  TCP_FLAGS,
  type TcpFlag,
  type TraceProtocol,
} from "../../../trace/packet.js";
import { AppError, UserError } from "../../../util/errors.js";
import type { Handler } from "../../command.js";
import { ExitCode } from "../../exit-codes.js";
import { withKernel } from "../../open-maps.js";

export interface TraceOptions {
  readonly proto: TraceProtocol;
  readonly src: string;
  readonly dst: string;
  readonly from?: Origin;
  readonly interface?: string;
  readonly flags?: string;
  readonly reply?: boolean;
}

const MAX_PORT = 65_535;

/** "10.0.0.1:80", "[fd00::1]:80", or an address alone. */
export function parseEndpoint(option: string, text: string): Endpoint {
  const match = /^\[(?<six>[^\]]*)\](?::(?<sixPort>\d+))?$|^(?<four>[^:]+)(?::(?<fourPort>\d+))?$/.exec(text);
  const { six, sixPort, four, fourPort } = match?.groups ?? {};
  const address = parseIp(six ?? four ?? text);
  const portText = sixPort ?? fourPort;
  const port = portText === undefined ? 0 : Number(portText);
  if (address === null)
    throw new UserError(`${option} "${text}" is no address`, { hint: "Write 10.0.0.1:80 or [fd00::1]:80." });
  if (port > MAX_PORT || (portText !== undefined && port === 0))
    throw new UserError(`${option} "${text}": a port is a number from 1 to ${MAX_PORT}`);
  return { address, port };
}

function parseFlags(text: string): readonly TcpFlag[] {
  return text.split(",").map((word) => {
    const flag = TCP_FLAGS.find((each) => each === word.trim().toLowerCase());
    if (flag === undefined) throw new UserError(`--flags: "${word}" is none of ${TCP_FLAGS.join(", ")}`);
    return flag;
  });
}

/** The packet that the command line asks for. */
export function packetOf({ proto, src, dst, flags }: TraceOptions): Packet {
  return {
    protocol: proto,
    source: parseEndpoint("--src", src),
    destination: parseEndpoint("--dst", dst),
    flags: flags === undefined ? (hasFlags(proto) ? ["syn"] : []) : parseFlags(flags),
  };
}

/** A packet that cannot be is a mistake on the command line. */
function asMistake({ message, fields, hint }: AppError): UserError {
  return new UserError(message, hint === null ? { fields } : { fields, hint });
}

/** `portolan trace`. Its status is 0 whatever becomes of the packet: that is the answer, and no failure. */
export const trace: Handler<TraceOptions> = async (options, printer) => {
  const { checkPacket, Tracer } = await import("../../../trace/trace.js");
  const packet = packetOf(options);
  try {
    checkPacket(packet);
  } catch (error) {
    throw error instanceof AppError ? asMistake(error) : error;
  }
  if (options.from === "host" && options.interface !== undefined)
    throw new UserError("--interface does not go with --from host: a process's packet comes in by none");
  // `--from` says here by what the packet comes in, and names no archive
  const { output, bpfRoot } = options;
  return await withKernel(
    { output, ...(bpfRoot === undefined ? {} : { bpfRoot }) },
    async ({ library, maps, pins }) => {
      const tracer = await Tracer.open(library, maps, pins, packet.destination.address.family);
      try {
        const result = await tracer.run({
          packet,
          reply: options.reply ?? false,
          ...(options.from === undefined ? {} : { from: options.from }),
          ...(options.interface === undefined ? {} : { interface: options.interface }),
        });
        if (printer.structured) printer.json((await import("../../../trace/json.js")).traceJson(result));
        else printer.line((await import("../../../trace/text.js")).traceLines(result).join("\n"));
      } finally {
        tracer.close();
      }
      return ExitCode.ok;
    },
  );
};
