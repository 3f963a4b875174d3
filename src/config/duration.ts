// SPDX-License-Identifier: Apache-2.0
/** Durations in Go's syntax ("30s", "1m0s", "1.5h"), as kube-proxy's flags and file have them. In milliseconds here. */

const MILLISECONDS: Readonly<Record<string, number>> = {
  ns: 1e-6,
  us: 1e-3,
  "\u00b5s": 1e-3,
  "\u03bcs": 1e-3,
  ms: 1,
  s: 1e3,
  m: 60e3,
  h: 3600e3,
};
const PART = /(\d+\.?\d*|\.\d+)(ns|us|\u00b5s|\u03bcs|ms|s|m|h)/y;
/** Go counts nanoseconds in 63 bits: some 292 years. */
const LONGEST = 2 ** 63 / 1e6;

/** Milliseconds; null when it is no duration. Only 0 needs no unit. */
export function parseDuration(text: string): number | null {
  const sign = text.startsWith("-") ? -1 : 1;
  const rest = /^[-+]/.test(text) ? text.slice(1) : text;
  if (rest === "0") return 0;
  if (rest === "") return null;
  let total = 0;
  PART.lastIndex = 0;
  while (PART.lastIndex < rest.length) {
    const match = PART.exec(rest);
    if (match === null) return null;
    total += Number(match[1]) * (MILLISECONDS[match[2] ?? ""] ?? Number.NaN);
  }
  // To whole nanoseconds, so that 0.1 and the like do not drag a tail along.
  const rounded = Number(total.toFixed(6));
  return rounded < LONGEST && rounded > 0 ? sign * rounded : rounded === 0 ? 0 : null;
}

/** As Go prints it: 0 is "0s", 90000 is "1m30s", 86400000 is "24h0m0s". */
export function formatDuration(milliseconds: number): string {
  const sign = milliseconds < 0 ? "-" : "";
  const whole = Math.abs(milliseconds);
  if (whole === 0) return "0s";
  if (whole < 1e-3) return `${sign}${number(whole * 1e6)}ns`;
  if (whole < 1) return `${sign}${number(whole * 1e3)}\u00b5s`;
  if (whole < 1e3) return `${sign}${number(whole)}ms`;
  const minutes = Math.floor(whole / 60e3);
  const seconds = `${number((whole - minutes * 60e3) / 1e3)}s`;
  if (minutes === 0) return sign + seconds;
  const hours = Math.floor(minutes / 60);
  return hours === 0 ? `${sign}${minutes}m${seconds}` : `${sign}${hours}h${minutes % 60}m${seconds}`;
}

/** At most nine digits after the point, and no zeros at their end. */
function number(value: number): string {
  return String(Number(value.toFixed(9)));
}
