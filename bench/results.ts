// SPDX-License-Identifier: Apache-2.0
/** What the benchmarks have left in bench/results/, as the report reads it. */
import { existsSync, readFileSync } from "node:fs";

export interface Machine {
  readonly date?: string;
  readonly commit?: string;
  readonly kernel: string;
  readonly node: string;
  readonly cpu: string;
  readonly cpus: number;
  readonly memoryMiB?: number;
  readonly load: readonly number[];
}

export interface PacketFigure {
  readonly path: string;
  readonly family: 4 | 6;
  readonly flows: number;
  readonly services: number;
  readonly ns: number;
}

export interface PacketResults {
  readonly machine: Machine;
  readonly rounds: number;
  /** Stands for "each packet opens another flow". */
  readonly everNew: number;
  readonly targets: readonly { readonly path: string; readonly flows: number; readonly ns: number }[];
  readonly lookups: readonly { readonly flows: number; readonly ns: number }[];
  readonly results: readonly PacketFigure[];
}

export interface ControlFigure {
  readonly services: number;
  readonly endpoints: number;
  readonly what: string;
  readonly dataplane: string;
  readonly ms: number;
  /** Of Portolan's time to this one's. */
  readonly ratio: number;
  readonly samples: readonly number[];
}

export interface ControlResults {
  readonly machine: Machine;
  readonly versions: Readonly<Record<string, string>>;
  readonly targets: readonly { readonly what: string; readonly dataplane: string; readonly ratio: number }[];
  readonly results: readonly ControlFigure[];
}

export interface MapFigure {
  readonly name: string;
  readonly used: number;
  readonly maxEntries: number;
  readonly bytes: number;
}

export interface AgentFigure {
  readonly services: number;
  readonly endpoints: number;
  readonly startMs: number;
  readonly restartMs: number;
  readonly rssMiB: number;
  readonly peakRssMiB: number;
  readonly maps: readonly MapFigure[];
  readonly latency: {
    readonly changes: number;
    readonly perSecond: number;
    readonly p50Ms: number;
    readonly p99Ms: number;
    readonly agentCpu: number;
  } | null;
}

export interface AgentResults {
  readonly machine: Machine;
  readonly targets: { readonly p99Ms: number; readonly startMs: number; readonly rssMiB: number };
  readonly results: readonly AgentFigure[];
}

export interface PathFigure {
  readonly kind: string;
  readonly place: string;
  readonly path: string;
  readonly services: number;
  readonly unit: "transactions/s" | "bit/s";
  readonly rate: number | null;
  readonly p50Us: number | null;
  readonly p99Us: number | null;
  /** Quartiles of the rates, as a share of the median. */
  readonly spread: number | null;
  readonly failed: string | null;
  readonly compared: readonly {
    readonly with: string;
    /** The median of the single rounds' ratios, and its 95 % interval. */
    readonly ratio: number;
    readonly interval: readonly [number, number];
    readonly atLeast: number | null;
    readonly reached: boolean | null;
  }[];
}

export interface PathResults {
  readonly machine: Machine;
  readonly conditions: {
    readonly flavour: string;
    readonly family: number;
    readonly rounds: number;
    readonly seconds: number;
    readonly tools: readonly string[];
  };
  readonly rows: readonly PathFigure[];
}

export interface QemuResults {
  readonly machine: Machine;
  readonly guest: { readonly kernel: string; readonly qemu: string };
  readonly family: number;
  readonly rounds: number;
  readonly rows: readonly {
    readonly kind: string;
    readonly path: string;
    readonly services: number;
    /** Of one transaction. */
    readonly instructions: number;
    readonly ratio: number;
  }[];
}

export interface ConnectResults {
  readonly machine: Machine;
  readonly targetNs: number;
  readonly connects: number;
  readonly results: readonly {
    readonly family: 4 | 6;
    readonly services: number;
    /** As the statistics have it; the same of an empty program; the difference. */
    readonly rawNs: number;
    readonly emptyNs: number;
    readonly ns: number;
    readonly rounds: readonly unknown[];
  }[];
}

/** Null: it was not measured. */
export function readResult<T>(name: string): T | null {
  const file = new URL(`./results/${name}.json`, import.meta.url);
  return existsSync(file) ? (JSON.parse(readFileSync(file, "utf8")) as T) : null;
}
