// SPDX-License-Identifier: Apache-2.0
import { type Command, InvalidArgumentError, Option } from "commander";
import { describe, integerOption, run } from "../../command.js";
import { withServiceScope } from "../../service-text.js";
import type { TopOptions } from "./handler.js";
import { SORT_KEYS } from "./keys.js";

const MOST_SECONDS = 3600;

function seconds(text: string): number {
  const value = /^\d{1,5}(\.\d{1,3})?$/.test(text) ? Number(text) : Number.NaN;
  if (!(value >= 0.1 && value <= MOST_SECONDS)) {
    throw new InvalidArgumentError(`it must be a number of seconds from 0.1 to ${MOST_SECONDS}.`);
  }
  return value;
}

export function topCommand(): Command {
  const command = describe({
    name: "top",
    summary: "live rates of Services and backends: new connections, packets, bytes, drops, flows",
    description: `A full-screen view on a terminal; ? explains its keys. Elsewhere, or with -o json, one line (or object) for each
service port and interval.

NEW/S are flows that were given a backend, DROPS/S new flows that got none: rejected, dropped, or refused to a socket. PKTS/S
and BYTES/S are translated packets of both directions. ACTIVE are the flows alive, which are counted every few seconds. "-" is
not known: what has just appeared has no rate yet, and a backend has no drops: what was
dropped never came so far. Those of its service port stand above its backends.`,
    examples: [
      { line: "portolan top", does: "everything, the most bytes first" },
      { line: "portolan top --backends -n shop", does: "the backends of one namespace" },
      { line: "portolan top --once -o json", does: "the rates of one interval, for programs" },
      { line: "portolan top --sort drops --count 3 | cat", does: "three intervals as plain lines" },
    ],
  });
  return withServiceScope(command)
    .addOption(new Option("--interval <seconds>", "time between two readings").argParser(seconds).default(1))
    .addOption(new Option("--sort <column>", "what comes first").choices(SORT_KEYS).default("bytes"))
    .option("--backends", "backends instead of service ports")
    .option("--once", "one interval, then end")
    .option("-c, --count <n>", "so many intervals, then end", integerOption(1, 1_000_000_000))
    .action(run<TopOptions>(async () => (await import("./handler.js")).top));
}
