// SPDX-License-Identifier: Apache-2.0
import { destination, pino } from "pino";
import type { Logger } from "../util/log.js";

export type LogLevel = "debug" | "info" | "warn" | "error";

/** A logger whose level may be changed while it is in use. */
export interface LeveledLogger extends Logger {
  level: string;
}

/**
 * A logger of JSON lines to a file descriptor. Writes are synchronous: there are few of them, and the last one before a
 * crash is the one that is wanted.
 */
export function createLogger(level: LogLevel, fd = 2): LeveledLogger {
  return pino(
    {
      level,
      base: null,
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
    },
    destination({ fd, sync: true }),
  );
}
