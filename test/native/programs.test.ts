// SPDX-License-Identifier: Apache-2.0
/** Programs and maps by their ids, whatever becomes of their pins. */
import assert from "node:assert/strict";
import { rmSync, unlinkSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { MAP_NAMES } from "../../src/abi/maps.gen.js";
import { DEFAULT_TIMEOUTS, kernelConfig } from "../../src/daemon/kernel-config.js";
import { NativeLibrary } from "../../src/native/lib.js";
import { freshPins, isolated } from "./support/isolate.js";

const maxEntries = Object.fromEntries(MAP_NAMES.map((name) => [name, 64]));

isolated(import.meta.url, () => {
  test("a program's maps and settings are found by its id, and a lost pin is made again by the map's", async () => {
    const library = new NativeLibrary();
    const pins = freshPins(library);
    const config = kernelConfig([{ first: 60_000, last: 60_999 }], DEFAULT_TIMEOUTS);
    const loaded = await library.open({ pins, maxEntries, config });
    try {
      const programs = loaded.programs();
      assert.ok(programs.some(({ name }) => name === "ptl_pod_in"));
      assert.equal(new Set(programs.map(({ id }) => id)).size, programs.length);
      for (const { tag } of programs) assert.match(tag, /^[0-9a-f]{16}$/);
      const first = programs.find(({ name }) => name === "ptl_net_in")?.id as number;
      const { maps, config: found } = library.programMaps(first);
      assert.deepEqual(found, config);
      const ids = new Map(loaded.infos().map(({ name, id }) => [name, id]));
      assert.equal(maps.get("frontends6"), ids.get("frontends6"));

      const pin = join(pins, "frontends6");
      assert.equal(library.pinnedMap(pin), ids.get("frontends6"));
      unlinkSync(pin);
      assert.equal(library.pinnedMap(pin), null);
      library.pinMap(ids.get("nat4") as number, pin);
      assert.equal(library.pinnedMap(pin), ids.get("nat4"), "another map's pin");
      library.pinMap(ids.get("frontends6") as number, pin);
      assert.equal(library.pinnedMap(pin), ids.get("frontends6"), "takes its place");
      rmSync(pin);
      assert.throws(() => library.pinMap(0x7fff_ffff, pin), { code: "E_NATIVE_KERNEL" });
      assert.throws(() => library.programMaps(0x7fff_ffff), { code: "E_NATIVE_KERNEL" });
      const twin = await library.open({ pins: "", maxEntries });
      assert.deepEqual(
        twin.programs().map(({ name, tag }) => `${name} ${tag}`),
        programs.map(({ name, tag }) => `${name} ${tag}`),
        "one build has one tag, whatever maps and settings it is loaded with",
      );
      await twin.close();
    } finally {
      await loaded.close();
      library.cleanup(pins);
    }
  });
});
