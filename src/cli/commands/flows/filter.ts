// SPDX-License-Identifier: Apache-2.0
/** Which flows a command is about. */
import type { FlowRow, Peer } from "../../../dataplane/view.js";
import { type Cidr, cidrContains, parseCidr } from "../../../net/cidr.js";
import { parseIp } from "../../../net/ip.js";
import { UserError } from "../../../util/errors.js";
import { inScope, peerText } from "../../service-text.js";
import type { FlowFilterOptions } from "./filter-options.js";

/** Whether an address with a port is one of those that were asked for. */
export type PeerTest = (peer: Peer) => boolean;

/**
 * "10.0.0.1", "10.0.0.1:80", "[fd00::1]:80", "10.0.0.0/8".
 *
 * @throws UserError that names the option
 */
export function parsePeerTest(text: string, option: string): PeerTest {
  const range = parseCidr(text);
  if (range !== null) return ({ address }) => isWithin(range, address);
  const { bare, bracketed, plain, port } =
    /^(?:\[(?<bracketed>[^\]]+)\]|(?<plain>[0-9.]+)):(?<port>\d{1,5})$|^(?<bare>.+)$/.exec(text)?.groups ??
    {};
  const address = parseIp(bracketed ?? plain ?? bare ?? "");
  const number = port === undefined ? null : Number(port);
  if (address === null || (number !== null && number > 65_535)) {
    throw new UserError(`${option}: "${text}" is no address`, {
      hint: "It must be an address, an address with a port (10.0.0.1:80, [fd00::1]:80) or a range (10.0.0.0/8).",
    });
  }
  return (peer) => peer.address === address.text && (number === null || peer.port === number);
}

function isWithin(range: Cidr, text: string): boolean {
  const address = parseIp(text);
  return address !== null && cidrContains(range, address);
}

/** Names of flows as `-o name` prints them. */
export function flowName({ protocol, client, destination }: FlowRow): string {
  return `flow/${protocol}/${peerText(client)}/${peerText(destination)}`;
}

/**
 * What the options ask for, as a test of a flow.
 *
 * @throws UserError as inScope() and parsePeerTest() do
 */
export function flowFilter(options: FlowFilterOptions): (row: FlowRow) => boolean {
  const { family, state, minIdle = 0, maxIdle = Number.POSITIVE_INFINITY } = options;
  const [client, backend, destination] = (["client", "backend", "destination"] as const).map((name) =>
    options[name] === undefined ? undefined : parsePeerTest(options[name], `--${name}`),
  );
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
