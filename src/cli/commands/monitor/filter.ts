// SPDX-License-Identifier: Apache-2.0
/** Which events were asked for. Pure. */
import { REASONS, type ReasonName } from "../../../abi/enums.gen.js";
import { EVENT_TYPES, type EventType, type EventView, type Peer } from "../../../dataplane/view.js";
import { type Cidr, cidrContains, cidrOf, parseCidr } from "../../../net/cidr.js";
import { parseIp } from "../../../net/ip.js";
import { UserError } from "../../../util/errors.js";
import { inScope, type ServiceScope } from "../../service-text.js";

export interface FilterOptions extends ServiceScope {
  readonly type?: readonly string[];
  readonly reason?: readonly string[];
  readonly address?: readonly string[];
  readonly protocol?: string;
  readonly sample?: number;
}

export interface EventFilter {
  readonly types: ReadonlySet<EventType>;
  readonly matches: (event: EventView) => boolean;
}

/** Everything but translated packets, of which there are as many as there is traffic. */
const USUAL: readonly EventType[] = EVENT_TYPES.filter((type) => type !== "translated");

/** "a,b" and "-x a -x b" are the same. */
const listOf = (values: readonly string[] = []): string[] =>
  values.flatMap((value) => value.split(",")).map((value) => value.trim());

function typesOf({ type, sample }: FilterOptions): ReadonlySet<EventType> {
  if (type === undefined) return new Set(sample === undefined ? USUAL : EVENT_TYPES);
  return new Set(
    listOf(type).map((name) => {
      const known = EVENT_TYPES.find((candidate) => candidate === name);
      if (known !== undefined) return known;
      throw new UserError(`--type: there is no event "${name}"`, {
        hint: `They are: ${EVENT_TYPES.join(", ")}.`,
      });
    }),
  );
}

function reasonsOf(reason: readonly string[] | undefined): ReadonlySet<ReasonName | ""> | null {
  if (reason === undefined) return null;
  return new Set(
    listOf(reason).map((name) => {
      const known = REASONS.find((candidate) => candidate.name === name);
      if (known !== undefined) return known.name;
      throw new UserError(`--reason: there is no reason "${name}"`, {
        hint: `They are: ${REASONS.map((each) => each.name).join(", ")}.`,
      });
    }),
  );
}

function rangesOf(address: readonly string[] | undefined): readonly Cidr[] | null {
  if (address === undefined) return null;
  return listOf(address).map((text) => {
    const ip = parseIp(text);
    const range = ip === null ? parseCidr(text) : cidrOf(ip, ip.bytes.length * 8);
    if (range !== null) return range;
    throw new UserError(`--address: "${text}" is neither an address nor a range such as 10.1.0.0/16`);
  });
}

/**
 * @throws UserError for a type, reason, address or scope that there cannot be
 */
export function eventFilter(options: FilterOptions): EventFilter {
  const types = typesOf(options);
  const reasons = reasonsOf(options.reason);
  const ranges = rangesOf(options.address);
  const isWanted = inScope(options);
  const inRange = (peer: Peer | null): boolean => {
    const ip = peer === null ? null : parseIp(peer.address);
    return ip !== null && (ranges ?? []).some((range) => cidrContains(range, ip));
  };
  return {
    types,
    matches: ({ type, reason, protocol, service, client, destination, backend, seenAs }) =>
      types.has(type) &&
      (reasons === null || reasons.has(reason)) &&
      (options.protocol === undefined || protocol === options.protocol) &&
      isWanted(service) &&
      (ranges === null || [client, destination, backend, seenAs].some(inRange)),
  };
}
