// SPDX-License-Identifier: Apache-2.0
/** Which flows a command is about. */
import { type Command, InvalidArgumentError, Option } from "commander";
import { parseDuration } from "../../../config/duration.js";
import type { FlowRow, FlowState, Peer } from "../../../dataplane/view.js";
import { type Cidr, cidrContains, parseCidr } from "../../../net/cidr.js";
import { parseIp } from "../../../net/ip.js";
import { inScope, peerText, type ServiceScope, withServiceScope } from "../../service-text.js";

export interface FlowFilterOptions extends ServiceScope {
  readonly client?: PeerTest;
  readonly backend?: PeerTest;
  readonly destination?: PeerTest;
  readonly protocol?: string;
  readonly family?: string;
  readonly state?: FlowState;
  /** Seconds. */
  readonly minIdle?: number;
  readonly maxIdle?: number;
}

/** Whether an address with a port is one of those that were asked for. */
export type PeerTest = (peer: Peer) => boolean;

const FLOW_STATES: readonly FlowState[] = ["opening", "established", "closing", "closed", "dead"];

/** "10.0.0.1", "10.0.0.1:80", "[fd00::1]:80", "10.0.0.0/8". */
export function parsePeerTest(text: string): PeerTest {
  const range = parseCidr(text);
  if (range !== null) return ({ address }) => isWithin(range, address);
  const { bare, bracketed, plain, port } =
    /^(?:\[(?<bracketed>[^\]]+)\]|(?<plain>[0-9.]+)):(?<port>\d{1,5})$|^(?<bare>.+)$/.exec(text)?.groups ??
    {};
  const address = parseIp(bracketed ?? plain ?? bare ?? "");
  const number = port === undefined ? null : Number(port);
  if (address === null || (number !== null && number > 65_535)) {
    throw new InvalidArgumentError(
      "it must be an address, an address with a port (10.0.0.1:80, [fd00::1]:80) or a range (10.0.0.0/8).",
    );
  }
  return (peer) => peer.address === address.text && (number === null || peer.port === number);
}

function isWithin(range: Cidr, text: string): boolean {
  const address = parseIp(text);
  return address !== null && address.family === range.family && cidrContains(range, address);
}

/** "90" or "90s", "5m", "1h30m": in seconds. */
export function parseIdle(text: string): number {
  const milliseconds = parseDuration(/^\d{1,10}$/.test(text) ? `${text}s` : text);
  if (milliseconds === null || milliseconds < 0)
    throw new InvalidArgumentError("it must be a time such as 90, 90s, 5m or 1h30m.");
  return milliseconds / 1000;
}

export function withFlowFilter(command: Command): Command {
  const peer = (flags: string, what: string): Option => new Option(flags, what).argParser(parsePeerTest);
  return withServiceScope(command)
    .addOption(peer("--client <peer>", "only from this address, address and port, or range"))
    .addOption(peer("--backend <peer>", "only to this backend"))
    .addOption(peer("--destination <peer>", "only to this address of a Service"))
    .addOption(new Option("--protocol <protocol>", "only of this one").choices(["tcp", "udp", "sctp"]))
    .addOption(new Option("--family <family>", "only of this one").choices(["4", "6"]))
    .addOption(new Option("--state <state>", "only flows in this state").choices(FLOW_STATES))
    .option("--min-idle <time>", "only those that were silent so long: 90, 90s, 5m", parseIdle)
    .option("--max-idle <time>", "only those that were not silent longer", parseIdle);
}

/** Names of flows as `-o name` prints them. */
export function flowName({ protocol, client, destination }: FlowRow): string {
  return `flow/${protocol}/${peerText(client)}/${peerText(destination)}`;
}

/** Whether anything is asked for: all flows are not what somebody wants to delete. */
export function isFiltered(options: FlowFilterOptions): boolean {
  const { service, namespace, client, backend, destination, protocol, family, state, minIdle, maxIdle } =
    options;
  return [service, namespace, client, backend, destination, protocol, family, state, minIdle, maxIdle].some(
    (value) => value !== undefined,
  );
}

/**
 * What the options ask for, as a test of a flow.
 *
 * @throws UserError as inScope() does
 */
export function flowFilter(options: FlowFilterOptions): (row: FlowRow) => boolean {
  const {
    client,
    backend,
    destination,
    family,
    state,
    minIdle = 0,
    maxIdle = Number.POSITIVE_INFINITY,
  } = options;
  const isWanted = inScope(options);
  const protocol = options.protocol?.toUpperCase();
  return (row) =>
    isWanted(row.service) &&
    (state === undefined || row.state === state) &&
    (protocol === undefined || row.protocol === protocol) &&
    (family === undefined || String(row.family) === family) &&
    row.idleSeconds >= minIdle &&
    row.idleSeconds <= maxIdle &&
    (client === undefined || client(row.client)) &&
    (backend === undefined || backend(row.backend)) &&
    (destination === undefined || destination(row.destination));
}
