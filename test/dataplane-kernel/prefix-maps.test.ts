// SPDX-License-Identifier: Apache-2.0
/** The prefix maps on the real kernel, which keeps the bits behind a prefix as whoever wrote the key left them. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { FAMILY_CODECS } from "../../src/abi/layout.gen.js";
import type { MapName } from "../../src/abi/maps.gen.js";
import { Reconciler } from "../../src/dataplane/reconciler.js";
import type { Image, ServicePortImage } from "../../src/image/types.js";
import type { KernelMaps } from "../../src/native/kernel.js";
import { NativeLibrary } from "../../src/native/lib.js";
import { compileBpf } from "../native/support/compile.js";
import { freshPins, isolated, scratch } from "../native/support/isolate.js";
import { cidr, ip } from "../property/dataplane/images.js";
import { assertExactly } from "../property/dataplane/rules.js";
import { bigPort, imageOf } from "../support/big-image.js";
import { copyOf, MAPS_ONLY } from "./support/maps-only.js";
import { SIZES } from "./support/story.js";

const u32 = (value: number): Uint8Array => new Uint8Array(Uint32Array.of(value).buffer);

function ranged(ranges: readonly string[]): ServicePortImage {
  const port = bigPort(0, 2);
  const frontends = port.frontends.flatMap((frontend) => [
    frontend,
    { ...frontend, kind: "LoadBalancer" as const, address: ip("192.0.2.1"), sourceRanged: true },
    { ...frontend, kind: "NodePort" as const, address: ip("0.0.0.0"), port: 30000 },
  ]);
  return { ...port, frontends, sourceRanges: ranges.map(cidr) };
}

function world(...ranges: readonly string[]): Image {
  return {
    ...imageOf([ranged(ranges)]),
    serviceNetworks: ["10.96.0.0/12", "fd00:96::/112"].map(cidr),
    nodePortAddresses: ["172.16.0.1", "fd00:172::1"].map(ip),
  };
}

async function put(kernel: KernelMaps, map: MapName, key: Uint8Array): Promise<void> {
  const result = await kernel.apply([{ map, kind: "update", count: 1, keys: key, values: u32(1) }]);
  assert.equal(result.failure, null);
}

isolated(import.meta.url, () => {
  test("Reconciler writes, changes, finds again and repairs the prefix maps of the real kernel", async () => {
    const library = new NativeLibrary();
    const object = compileBpf(scratch(), "maps", MAPS_ONLY);
    const loaded = await library.open({ pins: freshPins(library), object, maxEntries: SIZES });
    const assertHolds = async (image: Image): Promise<void> => assertExactly(await copyOf(loaded), image);
    try {
      const reconciler = new Reconciler({ kernel: loaded });
      const image = world("10.0.0.0/8", "198.51.100.0/24", "fd00::/8");
      assert.equal((await reconciler.sync(image)).failure, null);
      await assertHolds(image);

      const { sourceRange, network } = FAMILY_CODECS[4];
      const { service } = sourceRange.decode((await loaded.dump("source_ranges4")).keys);
      const range = (length: number, text: string, index = service): Uint8Array =>
        sourceRange.encode({ prefixLength: 32 + length, service: index, addr: ip(text).bytes });
      // The same prefix with other bits behind it takes the place of ours, and does the same.
      await put(loaded, "source_ranges4", range(8, "10.9.8.7"));
      assert.equal((await reconciler.audit()).differences.size, 0);
      assert.equal((await new Reconciler({ kernel: loaded }).sync(image)).writes, 0);
      const narrower = world("198.51.100.0/24", "fd00::/8");
      assert.equal((await reconciler.sync(narrower)).writes, 1);
      await assertHolds(narrower);

      await put(loaded, "source_ranges4", range(0, "0.0.0.0"));
      await put(loaded, "source_ranges4", range(17, "10.9.8.7", 4242));
      await put(loaded, "service_nets4", network.encode({ prefixLength: 3, addr: ip("77.7.7.7").bytes }));
      const { differences, repair } = await reconciler.audit();
      assert.deepEqual(
        [...differences],
        [
          ["source_ranges4", 2],
          ["service_nets4", 1],
        ],
      );
      assert.equal(repair?.failure, null);
      await assertHolds(narrower);
      assert.equal((await reconciler.audit()).differences.size, 0);

      const many = Array.from({ length: 65 }, (_, i) => `10.${i}.0.0/16`);
      const refused = await reconciler.sync(world(...many));
      assert.deepEqual([refused.failure, refused.refused.map(({ code }) => code)], [null, ["E_MAP_FULL"]]);
      await assertHolds(narrower);
      const fits = world(...many.slice(0, 63));
      assert.deepEqual((await reconciler.sync(fits)).refused, [], "64 with the old one, which goes last");
      await assertHolds(fits);
    } finally {
      await loaded.close();
    }
  });
});
