// SPDX-License-Identifier: Apache-2.0
import { createHash } from "node:crypto";
import { createServer } from "node:net";
import { AppError } from "../util/errors.js";

/** A socket's name has room for this many bytes of ours; Node.js cuts off the rest without a word. */
const LONGEST_NAME = 107;

function socketName(pins: string): string {
  const name = `portolan:${pins}`;
  if (Buffer.byteLength(name) <= LONGEST_NAME) return name;
  return `portolan:${createHash("sha256").update(pins).digest("hex")}`;
}

/**
 * Makes sure that one agent at a time writes below these pins: two would each take the other's cells for its own. The lock
 * is a socket name in the abstract namespace of this network namespace, so the kernel frees it however the holder dies.
 *
 * @returns a function that lets go of it
 * @throws AppError E_AGENT_RUNNING when another process holds it
 */
export async function onlyOne(pins: string): Promise<() => Promise<void>> {
  const server = createServer((socket) => socket.destroy());
  await new Promise<void>((resolve, reject) => {
    server.once("error", (error: NodeJS.ErrnoException) => {
      if (error.code !== "EADDRINUSE") return reject(error);
      reject(
        new AppError("E_AGENT_RUNNING", `another agent is running with the maps below ${pins}`, {
          fields: { pins },
          hint: "Stop it first, or give this one its own --bpf-root.",
        }),
      );
    });
    server.listen({ path: `\0${socketName(pins)}` }, resolve);
  });
  server.unref();
  return () => new Promise((resolve) => server.close(() => resolve()));
}
