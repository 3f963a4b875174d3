// SPDX-License-Identifier: Apache-2.0
/** The source ports that masquerading may use: ours alone, so that no local program and no NodePort shares them. */
import { UserError } from "../util/errors.js";

/** An inclusive range of ports. */
export interface PortRange {
  readonly first: number;
  readonly last: number;
}

/** Between the well-known ports and the NodePorts, and above Linux' own ephemeral range. */
export const DEFAULT_SNAT_RANGES: readonly PortRange[] = [
  { first: 10240, last: 29999 },
  { first: 61000, last: 65535 },
];

/** Kubernetes' NodePorts. */
export const NODE_PORTS: PortRange = { first: 30000, last: 32767 };

export interface TakenPorts {
  readonly range: PortRange;
  /** Whose they are. */
  readonly by: string;
}

/** What masquerading may not use on a host with this net.ipv4.ip_local_port_range; null: it is not known. */
export function takenPorts(local: PortRange | null): readonly TakenPorts[] {
  const nodePorts = { range: NODE_PORTS, by: "NodePorts" };
  return local === null ? [nodePorts] : [nodePorts, { range: local, by: "net.ipv4.ip_local_port_range" }];
}

/** The kernel programs take as many. */
export const MAX_SNAT_RANGES = 2;

const size = ({ first, last }: PortRange): number => last - first + 1;

export function rangeText({ first, last }: PortRange): string {
  return `${first}-${last}`;
}

/**
 * Reads `--snat-ports`, such as "10240-29999,61000-65535".
 *
 * @throws UserError naming the part that is wrong
 */
export function parsePortRanges(text: string): readonly PortRange[] {
  const parts = text.split(",").map((part) => part.trim());
  const ranges = parts.map((part) => {
    const match = /^(\d{1,5})(?:-(\d{1,5}))?$/.exec(part);
    const first = Number(match?.[1]);
    const last = Number(match?.[2] ?? match?.[1]);
    if (!match || first < 1 || last > 65535 || first > last) {
      throw new UserError(
        `--snat-ports: "${part}" is no range of ports from 1 to 65535, such as 10240-29999`,
      );
    }
    return { first, last };
  });
  if (ranges.length > MAX_SNAT_RANGES) {
    throw new UserError(`--snat-ports: ${ranges.length} ranges are given, ${MAX_SNAT_RANGES} are possible`);
  }
  const [a, b] = ranges;
  if (a && b && a.first <= b.last && b.first <= a.last) {
    throw new UserError(`--snat-ports: ${rangeText(a)} and ${rangeText(b)} overlap`);
  }
  return ranges;
}

/** `/proc/sys/net/ipv4/ip_local_port_range`: two numbers. Null when the text is something else. */
export function parseLocalPortRange(text: string): PortRange | null {
  const match = /^\s*(\d+)\s+(\d+)\s*$/.exec(text);
  return match ? { first: Number(match[1]), last: Number(match[2]) } : null;
}

function without(range: PortRange, taken: PortRange): readonly PortRange[] {
  return [
    { first: range.first, last: Math.min(range.last, taken.first - 1) },
    { first: Math.max(range.first, taken.last + 1), last: range.last },
  ].filter((rest) => rest.first <= rest.last);
}

export interface UsablePorts {
  /** At most {@link MAX_SNAT_RANGES}, ascending. */
  readonly ranges: readonly PortRange[];
  /** What was taken out, with whose it is. */
  readonly conflicts: readonly {
    readonly range: PortRange;
    readonly taken: PortRange;
    readonly by: string;
  }[];
}

/** The wanted ranges less what others use. Where more than two pieces remain, the two largest are kept. */
export function usablePorts(wanted: readonly PortRange[], taken: readonly TakenPorts[]): UsablePorts {
  const conflicts = taken.flatMap(({ range: other, by }) =>
    wanted
      .filter((range) => range.first <= other.last && other.first <= range.last)
      .map((range) => ({ range, taken: other, by })),
  );
  let ranges: readonly PortRange[] = wanted;
  for (const { range } of taken) ranges = ranges.flatMap((piece) => without(piece, range));
  const kept = [...ranges].sort((a, b) => size(b) - size(a)).slice(0, MAX_SNAT_RANGES);
  return { ranges: kept.sort((a, b) => a.first - b.first), conflicts };
}
