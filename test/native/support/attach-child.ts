// SPDX-License-Identifier: Apache-2.0
/** A process that starts as the agent does, attaches, and then waits to be killed: attach-child.ts PINS IFINDEX MODE SIZES-AS-JSON. */

import type { HookMode } from "../../../src/native/hooks.js";
import { NativeLibrary } from "../../../src/native/lib.js";

const [pins = "", ifindex = "0", mode = "auto", sizes = "{}"] = process.argv.slice(2);
const library = new NativeLibrary();
const loaded = await library.open({ pins, maxEntries: JSON.parse(sizes) as Record<string, number> });
library.sweep(pins);
const [result] = await loaded.attach([{ ifindex: Number(ifindex), role: 1, mode: mode as HookMode }]);
process.stdout.write(`${result?.ok ? "attached" : result?.error.message}\n`);
setInterval(() => {}, 1000);
