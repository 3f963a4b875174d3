// SPDX-License-Identifier: Apache-2.0
/** Two ends of a wire in the test's own namespace, and what arrives at the far one. */
import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";

export const NEAR_MAC = "02:00:00:00:00:01";
export const FAR_MAC = "02:00:00:00:00:02";

export function ip(...args: readonly string[]): string {
  return execFileSync("ip", args, { encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] });
}

/** Makes the pair `near`/`far`, both up, and returns the ifindex of `near`. Only after isolate(). */
export function makeWire(): number {
  ip("link", "add", "near", "address", NEAR_MAC, "type", "veth", "peer", "name", "far", "address", FAR_MAC);
  for (const end of ["near", "far"]) ip("link", "set", end, "up");
  const [link] = JSON.parse(ip("-j", "link", "show", "near")) as [{ ifindex: number }];
  return link.ifindex;
}

export function removeWire(): void {
  ip("link", "del", "near");
}

/** The first frame that reaches `far` and matches a tcpdump filter, from what `send` does. */
export async function capture(filter: string, send: () => void | Promise<void>): Promise<Uint8Array> {
  const args = ["-i", "far", "--immediate-mode", "-U", "-c", "1", "-w", "-", filter];
  const tcpdump = spawn("tcpdump", args, { stdio: ["ignore", "pipe", "pipe"], timeout: 180_000 });
  const chunks: Buffer[] = [];
  tcpdump.stdout.on("data", (chunk: Buffer) => chunks.push(chunk));
  const closed = once(tcpdump, "close");
  // tcpdump says so when it listens.
  await once(tcpdump.stderr, "data");
  await send();
  const [code] = await closed;
  // A pcap file: 24 bytes of header, 16 bytes of record header, the frame.
  const frame = new Uint8Array(Buffer.concat(chunks).subarray(40));
  assert.ok(code === 0 && frame.length > 0, `no frame at the far end matched "${filter}"`);
  return frame;
}
