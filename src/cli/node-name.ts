// SPDX-License-Identifier: Apache-2.0
import { hostname } from "node:os";
import { UserError } from "../util/errors.js";

/**
 * This node's name: the option's, or the host's; trimmed and in lower case, as kube-proxy does with --hostname-override
 * (12.8). `option` is what to name in the error.
 *
 * @throws UserError when the option is given and empty, as an unset shell variable makes it
 */
export function nodeName(given: string | undefined, option: string): string {
  const name = (given ?? hostname()).trim().toLowerCase();
  if (given !== undefined && name === "") throw new UserError(`${option} is empty`);
  return name;
}
