// SPDX-License-Identifier: Apache-2.0
import type { Socket } from "node:net";

/**
 * The connections of all health check ports together, with one limit: when it is reached, the oldest connection makes room.
 * So clients that connect and say nothing keep neither file descriptors nor the probes of others, which take milliseconds.
 */
export class ConnectionBudget {
  readonly #most: number;
  /** In the order in which they came. */
  readonly #sockets = new Set<Socket>();

  constructor(most: number) {
    this.#most = most;
  }

  get open(): number {
    return this.#sockets.size;
  }

  add(socket: Socket): void {
    if (this.#sockets.size >= this.#most) {
      for (const oldest of this.#sockets) {
        this.#sockets.delete(oldest);
        oldest.destroy();
        break;
      }
    }
    this.#sockets.add(socket);
    socket.once("close", () => this.#sockets.delete(socket));
  }
}
