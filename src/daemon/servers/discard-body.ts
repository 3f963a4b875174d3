// SPDX-License-Identifier: Apache-2.0
import type { IncomingMessage } from "node:http";

/** How much is read before the connection is closed. */
const MOST_BODY_BYTES = 64 << 10;

/** Reads a request's body for nothing: an answer may be on its way while a client still talks. */
export function discardBody(request: IncomingMessage): void {
  let bytes = 0;
  request.on("data", (chunk: Buffer) => {
    bytes += chunk.length;
    if (bytes > MOST_BODY_BYTES) request.destroy();
  });
}
