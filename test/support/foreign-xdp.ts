// SPDX-License-Identifier: Apache-2.0
import { rmSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { type Host, run } from "../../src/demo/world/index.js";
import { BPFFS, mountBpffs } from "./product.js";

/** Lets everything pass (test/bpf/xdp-foreign.bpf.c). */
const OBJECT = fileURLToPath(new URL("../../build/test/xdp-foreign.bpf.o", import.meta.url));

/**
 * Puts an XDP program that is not ours on an interface, in the driver; it goes with the interface. By bpftool, since `ip link set
 * … xdp obj` leaves directories of its own in the bpf file system.
 */
export async function attachForeignXdp(host: Host, device: string): Promise<void> {
  mountBpffs();
  const pin = `${BPFFS}/${host.netns}-${device}`;
  await run(["bpftool", "prog", "load", OBJECT, pin, "type", "xdp"]);
  try {
    await host.exec(["bpftool", "net", "attach", "xdpdrv", "pinned", pin, "dev", device]);
  } finally {
    rmSync(pin);
  }
}
