// SPDX-License-Identifier: Apache-2.0
import { errorMessage } from "../util/errors.js";
import type { Logger } from "../util/log.js";
import { type KernelFiles, kernelFiles } from "./sysctls.js";

const OWN_SCORE = "/proc/self/oom_score_adj";

/** Makes the agent less likely (negative) or more likely to be ended when memory runs out. A refusal is said and ignored. */
export function setOomScore(score: number, log: Logger, files: KernelFiles = kernelFiles): void {
  if (files.read(OWN_SCORE)?.trim() === String(score)) return;
  try {
    files.write(OWN_SCORE, String(score));
  } catch (error) {
    log.info(
      { code: "oom_score_refused", score, reason: errorMessage(error) },
      "oom_score_adj stays as it is",
    );
  }
}
