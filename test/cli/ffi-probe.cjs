// SPDX-License-Identifier: Apache-2.0
// Loaded before the command line by `node --require`: counts its FFI calls by symbol, and when it ends writes them and its peak
// memory to the file that PORTOLAN_TEST_PROBE names.
const { writeFileSync } = require("node:fs");
const bindings = require("ffi-napi/lib/bindings");

const file = process.env.PORTOLAN_TEST_PROBE;
const calls = {};
for (const name of ["ffi_call", "ffi_call_async"]) {
  const original = bindings[name];
  bindings[name] = (cif, symbol, ...rest) => {
    // Symbols that a library has given have their names; what finds them has none.
    const of = symbol.name ?? "dl";
    calls[of] = (calls[of] ?? 0) + 1;
    return original(cif, symbol, ...rest);
  };
}
process.on("exit", () => {
  const peakKiB = process.resourceUsage().maxRSS;
  if (file !== undefined) writeFileSync(file, JSON.stringify({ calls, peakKiB }));
});
