// SPDX-License-Identifier: Apache-2.0
/** Samples to medians, ratios within the run, and a table. */
import { median } from "../support/interleave.js";
import type { Sample } from "./arena.js";
import type { Kind } from "./load.js";
import type { Path } from "./paths.js";
import type { Place } from "./services.js";

/** Own rates with the most Services against own rates with one. */
const OWN_TARGET = 0.97;
const MOST_SERVICES = 100_000;

/** One contestant's measurements of one kind. */
export interface Measured {
  readonly path: Path;
  readonly services: number;
  readonly kind: Kind;
  readonly place: Place;
  readonly samples: readonly Sample[];
}

export interface Comparison {
  /** With what: a contestant's name, or "1 Service" for its own rate with one. */
  readonly with: string;
  readonly ratio: number;
  /** Null: none was set. */
  readonly atLeast: number | null;
  readonly reached: boolean | null;
}

/** One line of the result. */
export interface Row {
  readonly kind: Kind;
  readonly place: Place;
  readonly path: string;
  readonly services: number;
  readonly unit: "transactions/s" | "bit/s";
  /** Every one, in the order of the rounds. */
  readonly samples: readonly Sample[];
  /** Null: a sample failed, so there is no figure. */
  readonly rate: number | null;
  /** From the least to the greatest rate, as a share of the median: how quiet the machine was. */
  readonly spread: number | null;
  readonly p50Us: number | null;
  readonly p99Us: number | null;
  /** Why there is no figure. */
  readonly failed: string | null;
  readonly compared: readonly Comparison[];
}

type Figures = Pick<Row, "rate" | "spread" | "p50Us" | "p99Us" | "failed">;

const to = (digits: number, value: number): number => Math.round(value * 10 ** digits) / 10 ** digits;

function figures(kind: Kind, samples: readonly Sample[]): Figures {
  const failed = samples.find((sample) => "failed" in sample);
  if (failed !== undefined && "failed" in failed)
    return { rate: null, spread: null, p50Us: null, p99Us: null, failed: failed.failed };
  const good = samples.filter((sample) => "rate" in sample);
  const latency = (of: "p50Us" | "p99Us"): number | null =>
    kind === "tcp-stream" ? null : to(1, median(good.map((sample) => sample[of])));
  const rates = good.map(({ rate }) => rate);
  return {
    rate: to(0, median(rates)),
    spread: to(3, (Math.max(...rates) - Math.min(...rates)) / median(rates)),
    p50Us: latency("p50Us"),
    p99Us: latency("p99Us"),
    failed: null,
  };
}

/** The rows, in the order of what was measured, each with what it is compared with. */
export function rowsOf(all: readonly Measured[]): Row[] {
  const rateOf = (name: string, services: number, { kind, place }: Measured): number | null => {
    const found = all.find(
      (other) =>
        other.path.name === name &&
        other.services === services &&
        other.kind === kind &&
        other.place === place,
    );
    return found === undefined ? null : figures(kind, found.samples).rate;
  };
  return all.map((one) => {
    const { path, services, kind, place, samples } = one;
    const own = figures(kind, samples);
    const compare = (
      other: string,
      rate: number | null,
      atLeast: number | null,
      above = false,
    ): Comparison[] => {
      if (own.rate === null || rate === null) return [];
      const ratio = to(3, own.rate / rate);
      const reached = atLeast === null ? null : above ? ratio > atLeast : ratio >= atLeast;
      return [{ with: other, ratio, atLeast, reached }];
    };
    const counted = kind === "tcp-rr" || kind === "tcp-crr";
    return {
      ...{ kind, place, path: path.name, services, samples, ...own },
      unit: kind === "tcp-stream" ? "bit/s" : "transactions/s",
      compared: [
        ...(path.baseline === path.name
          ? []
          : compare(path.baseline, rateOf(path.baseline, 1, one), path.targets[place]?.[kind] ?? null)),
        ...(services === 1
          ? []
          : compare(
              "1 Service",
              rateOf(path.name, 1, one),
              path.dataplane.by === "portolan" && services >= MOST_SERVICES ? OWN_TARGET : null,
            )),
        ...path.faster.flatMap((name) =>
          compare(name, rateOf(name, services, one), counted ? 1 : null, true),
        ),
      ],
    };
  });
}

function comparedText({ with: other, ratio, atLeast }: Comparison): string {
  const target = atLeast === null ? "" : ` (target ${atLeast === 1 ? "> 1" : `>= ${atLeast}`})`;
  return `${ratio.toFixed(3)} of ${other}${target}`;
}

function marked(comparison: Comparison): string {
  const { reached } = comparison;
  return `${comparedText(comparison)}${reached === null ? "" : reached ? " ok" : " MISSED"}`;
}

function rateText({ rate, unit }: Row): string {
  if (rate === null) return "failed";
  return unit === "bit/s" ? `${(rate / 1e9).toFixed(2)} Gbit/s` : `${rate}/s`;
}

/** The lines of a table for people: contestant, Services, median rate, spread, latencies p50 and p99, comparisons. */
export function tableOf(rows: readonly Row[]): string[] {
  const lines: string[] = [];
  let heading = "";
  for (const row of rows) {
    const { kind, place, path, services, spread, p50Us, p99Us, failed } = row;
    const wanted = `${kind}, server on the ${place}`;
    if (wanted !== heading) lines.push("", wanted);
    heading = wanted;
    const latency = p50Us === null ? "" : `${p50Us} / ${p99Us} us`;
    const columns = [
      path.padEnd(20),
      `${services}`.padStart(7),
      rateText(row).padStart(14),
      `${spread === null ? "" : `${Math.round(spread * 100)} %`}`.padStart(6),
      latency.padStart(18),
    ];
    lines.push(`  ${columns.join("  ")}  ${failed ?? row.compared.map(marked).join(", ")}`);
  }
  return lines;
}

/** What was missed, or failed, as sentences. */
export function misses(rows: readonly Row[]): string[] {
  return rows.flatMap((row) => {
    const what = `${row.path} with ${row.services}, ${row.kind}, ${row.place}`;
    if (row.failed !== null) return [`${what}: failed: ${row.failed}`];
    return row.compared
      .filter(({ reached }) => reached === false)
      .map((comparison) => `${what}: ${comparedText(comparison)}`);
  });
}
