// SPDX-License-Identifier: Apache-2.0
import { fileURLToPath } from "node:url";
import { AppError } from "../../../util/errors.js";
import type { Handler } from "../../command.js";
import { ExitCode } from "../../exit-codes.js";

export interface DemoOptions {
  readonly keep?: true;
}

/** Runs the demonstration. Ctrl-C ends it in good order; a second one at once. */
export const demo: Handler<DemoOptions> = async (options) => {
  if (process.getuid?.() !== 0) {
    throw new AppError("E_PERMISSION", "the demo makes network namespaces, which needs root", {
      hint: "Run it with sudo.",
    });
  }
  const { runDemo } = await import("../../../demo/demo.js");
  const controller = new AbortController();
  const stop = (): void => {
    if (controller.signal.aborted) process.exit(130);
    controller.abort();
  };
  // `portolan demo | head` ends it too, but not without putting things in order.
  process.stdout.removeAllListeners("error");
  process.stdout.on("error", () => controller.abort());
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(signal, stop);
  const outcome = await runDemo({
    keep: options.keep === true,
    cli: [process.execPath, ...process.execArgv, process.argv[1] as string],
    examples: fileURLToPath(new URL("../../../../examples", import.meta.url)),
    out: process.stdout,
    signal: controller.signal,
  });
  if (outcome === "interrupted") return ExitCode.interrupted;
  return outcome === "held" ? ExitCode.ok : ExitCode.finding;
};
