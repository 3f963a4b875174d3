// SPDX-License-Identifier: Apache-2.0
/** In the bundle this stands for the demo: that needs examples, a redis and iproute2, which are no part of the product on a node. */
import type { Handler } from "../../src/cli/command.js";
import { UserError } from "../../src/util/errors.js";

export const demo: Handler<unknown> = () => {
  throw new UserError("the demo is not part of this build of Portolan", {
    hint: "Run it from the source: make demo.",
  });
};
