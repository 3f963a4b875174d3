// SPDX-License-Identifier: Apache-2.0
/** A process that attaches socket programs and then waits to be killed: attach-sockets-child.ts PINS OBJECT CGROUP SIZES-AS-JSON. */

import { NativeLibrary } from "../../../src/native/lib.js";

const [pins = "", object = "", cgroup = "", sizes = "{}"] = process.argv.slice(2);
const library = new NativeLibrary();
const loaded = await library.open({
  pins,
  object,
  maxEntries: JSON.parse(sizes) as Record<string, number>,
});
const { added } = await loaded.attachSockets(cgroup);
process.stdout.write(`${added}\n`);
setInterval(() => {}, 1000);
