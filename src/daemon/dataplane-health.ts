// SPDX-License-Identifier: Apache-2.0
/** From looks at interfaces and their programs to what health says of the dataplane. */
import type { InterfaceKeeper } from "../dataplane/attach.js";
import { AppError, errorMessage } from "../util/errors.js";
import type { DataplaneState } from "./health/health-state.js";

/** The keeper's error when its map took no write. */
const MAP_REFUSED = "E_INTERFACES_MAP";

/**
 * After a look that ended well (`error` null) or not. One interface without programs is not healthy: Services do not answer
 * there. An error that is not about maps means that nobody knows which programs are where.
 */
export function dataplaneState(
  { failedNames }: Pick<InterfaceKeeper, "failedNames">,
  error: unknown,
): DataplaneState {
  if (error === null) {
    const attached = failedNames.length === 0;
    return { attached, writable: true, detail: attached ? "" : failedNames.join(", ") };
  }
  const refused = error instanceof AppError && error.code === MAP_REFUSED;
  return { attached: refused, writable: !refused, detail: errorMessage(error) };
}
