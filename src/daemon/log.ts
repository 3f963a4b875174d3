// SPDX-License-Identifier: Apache-2.0
import { destination, pino } from "pino";
import type { Logger } from "../util/log.js";

export type LogLevel = "debug" | "info" | "warn" | "error";

/** A logger whose level may be changed while it is in use. */
export interface LeveledLogger extends Logger {
  level: string;
}

/** Who else is given the lines. */
export interface LogSink {
  /** @param line with its end */
  write(line: string): void;
}

/**
 * A logger of JSON lines to a file descriptor. Writes are synchronous: there are few of them, and the last one before a
 * crash is the one that is wanted.
 */
export function createLogger(level: LogLevel, fd = 2, also: LogSink | null = null): LeveledLogger {
  const file = destination({ fd, sync: true });
  const toBoth = (line: string): void => {
    file.write(line);
    also?.write(line);
  };
  return pino(
    {
      level,
      base: null,
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
    },
    also === null ? file : { write: toBoth },
  );
}
