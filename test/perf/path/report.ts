// SPDX-License-Identifier: Apache-2.0
/** Samples to medians, ratios of neighbours, and a table. */
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
  /** The median of the ratios of the two rates of each round, which are neighbours in time. */
  readonly ratio: number;
  /** Where the median of endless rounds would be, with 95 % probability: between these two of the rounds' ratios. */
  readonly interval: readonly [low: number, high: number];
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
  /** Null: too many samples failed, so there is no figure. */
  readonly rate: number | null;
  /** From the lower to the upper quartile of the rates, as a share of the median: how quiet the machine was. */
  readonly spread: number | null;
  readonly p50Us: number | null;
  readonly p99Us: number | null;
  /** How many samples are no figures: they failed, or took another path. */
  readonly left: number;
  /** Why there is no figure. */
  readonly failed: string | null;
  readonly compared: readonly Comparison[];
}

type Figures = Pick<Row, "rate" | "spread" | "p50Us" | "p99Us" | "left" | "failed">;

const to = (digits: number, value: number): number => Math.round(value * 10 ** digits) / 10 ** digits;

/** The value below which this share of the others is, between the two nearest ones. */
function quantile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  const place = share * (sorted.length - 1);
  const [below = Number.NaN, above = below] = sorted.slice(Math.floor(place));
  return below + (above - below) * (place % 1);
}

/** So many samples of one row may fail: more, and it has no figure. */
const FAILED_SHARE = 0.2;

function figures(kind: Kind, samples: readonly Sample[]): Figures {
  const failures = samples.flatMap((sample) => ("failed" in sample ? [sample.failed] : []));
  const left = failures.length;
  if (samples.length === 0 || left > FAILED_SHARE * samples.length)
    return {
      ...{ rate: null, spread: null, p50Us: null, p99Us: null, left },
      failed: failures[0] ?? "not measured",
    };
  const good = samples.filter((sample) => "rate" in sample);
  const latency = (of: "p50Us" | "p99Us"): number | null =>
    kind === "tcp-stream" ? null : to(1, median(good.map((sample) => sample[of])));
  const rates = good.map(({ rate }) => rate);
  return {
    rate: to(0, median(rates)),
    spread: to(3, (quantile(rates, 0.75) - quantile(rates, 0.25)) / median(rates)),
    p50Us: latency("p50Us"),
    p99Us: latency("p99Us"),
    left,
    failed: null,
  };
}

/** Of rates that were measured in the same round, in ascending order. */
function roundRatios(own: readonly Sample[], other: readonly Sample[]): number[] {
  const ratios = own.flatMap((sample, round) => {
    const against = other[round];
    return against !== undefined && "rate" in sample && "rate" in against ? [sample.rate / against.rate] : [];
  });
  return ratios.sort((a, b) => a - b);
}

/** Standard deviations on both sides of a normal distribution's middle that hold 95 % of it. */
const SIDES_95 = 1.96;

/**
 * The 95 % interval of the median, by ranks: how many of n values are below the true median is binomial, whatever their
 * distribution. With fewer than six values it is all of them, and less sure.
 */
function intervalOf(ascending: readonly number[]): Comparison["interval"] {
  const n = ascending.length;
  const outside = Math.max(0, Math.floor((n - SIDES_95 * Math.sqrt(n)) / 2));
  return [to(3, ascending[outside] ?? Number.NaN), to(3, ascending[n - 1 - outside] ?? Number.NaN)];
}

/** The rows, in the order of what was measured, each with what it is compared with. */
export function rowsOf(all: readonly Measured[]): Row[] {
  const found = (name: string, services: number, { kind, place }: Measured): Measured | undefined =>
    all.find(
      (other) =>
        other.path.name === name &&
        other.services === services &&
        other.kind === kind &&
        other.place === place,
    );
  return all.map((one) => {
    const { path, services, kind, place, samples } = one;
    const own = figures(kind, samples);
    const compare = (
      other: string,
      against: Measured | undefined,
      atLeast: number | null,
      above = false,
    ): Comparison[] => {
      const rate = against === undefined ? null : figures(kind, against.samples).rate;
      if (own.rate === null || rate === null) return [];
      const ratios = roundRatios(samples, against?.samples ?? []);
      if (ratios.length === 0) return []; // each round lacks one of the two
      const ratio = to(3, median(ratios));
      const reached = atLeast === null ? null : above ? ratio > atLeast : ratio >= atLeast;
      return [{ with: other, ratio, interval: intervalOf(ratios), atLeast, reached }];
    };
    const counted = kind === "tcp-rr" || kind === "tcp-crr";
    return {
      ...{ kind, place, path: path.name, services, samples, ...own },
      unit: kind === "tcp-stream" ? "bit/s" : "transactions/s",
      compared: [
        ...(path.baseline === path.name
          ? []
          : compare(path.baseline, found(path.baseline, 1, one), path.targets[place]?.[kind] ?? null)),
        ...(services === 1
          ? []
          : compare(
              "1 Service",
              found(path.name, 1, one),
              path.dataplane.by === "portolan" && services >= MOST_SERVICES ? OWN_TARGET : null,
            )),
        ...path.faster.flatMap((name) => compare(name, found(name, services, one), counted ? 1 : null, true)),
        ...path.beside.flatMap((name) => compare(name, found(name, services, one), null)),
      ],
    };
  });
}

function comparedText({ with: other, ratio, atLeast }: Comparison): string {
  const target = atLeast === null ? "" : ` (target ${atLeast === 1 ? "> 1" : `>= ${atLeast}`})`;
  return `${ratio.toFixed(3)} of ${other}${target}`;
}

function marked(comparison: Comparison): string {
  const { reached, interval } = comparison;
  const [low, high] = interval.map((each) => each.toFixed(3));
  return `${comparedText(comparison)} [${low}-${high}]${reached === null ? "" : reached ? " ok" : " MISSED"}`;
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
      path.padEnd(23),
      `${services}`.padStart(7),
      rateText(row).padStart(14),
      `${spread === null ? "" : `${Math.round(spread * 100)} %`}`.padStart(6),
      latency.padStart(18),
    ];
    lines.push(
      `  ${columns.join("  ")}  ${failed ?? row.compared.map(marked).join(", ")}${failed === null && row.left > 0 ? ` (${row.left} samples left out)` : ""}`,
    );
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
