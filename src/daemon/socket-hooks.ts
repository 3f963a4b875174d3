// SPDX-License-Identifier: Apache-2.0
/** Keeps the programs on the socket hooks of a cgroup, or off them. A failure there stops nothing else. */
import { AppError, errorMessage } from "../util/errors.js";
import type { Logger } from "../util/log.js";
import type { SocketLb } from "./kernel-options.js";

/** What it needs of the kernel. */
export interface SocketKernel {
  /**
   * Puts the programs on the hooks of this cgroup; idempotent. `added`: hooks that had none of ours before. `foreign`: hooks
   * that had another program in our place.
   */
  attach(cgroup: string): AttachedHooks | Promise<AttachedHooks>;
  /** Takes them off, wherever they are. Idempotent. How many there were. */
  detach(): number | Promise<number>;
}

export interface AttachedHooks {
  readonly added: number;
  readonly foreign?: number;
}

export interface SocketHooksOptions {
  readonly mode: SocketLb;
  /** A directory of cgroup v2; null: there is none. */
  readonly cgroup: string | null;
  readonly kernel: SocketKernel;
  readonly log: Logger;
  /** Told how many hooks had to be given their programs again. */
  readonly onFound?: (hooks: number) => void;
}

export class SocketHooks {
  readonly #mode: SocketLb;
  readonly #cgroup: string | null;
  readonly #kernel: SocketKernel;
  readonly #log: Logger;
  readonly #onFound: (hooks: number) => void;
  #attached = false;
  /** What was said last, so that it is said once. */
  #complaint = "";

  constructor({ mode, cgroup, kernel, log, onFound }: SocketHooksOptions) {
    this.#mode = mode;
    this.#cgroup = cgroup;
    this.#kernel = kernel;
    this.#log = log;
    this.#onFound = onFound ?? (() => {});
  }

  /** Makes it so; with each audit again. Never rejects. */
  async ensure(): Promise<void> {
    try {
      if (this.#mode === "off") await this.#takeOff();
      else if (this.#cgroup === null) {
        const reason = "no cgroup v2 file system is mounted";
        this.#complain("no_cgroup2", reason, "mount -t cgroup2 none /sys/fs/cgroup, or --cgroup-root DIR");
      } else await this.#putOn(this.#cgroup);
    } catch (error) {
      const { code, hint } = error instanceof AppError ? error : { code: "E_SOCKET_HOOKS", hint: null };
      this.#complain(code, errorMessage(error), hint);
    }
  }

  async #putOn(cgroup: string): Promise<void> {
    const { added, foreign = 0 } = await this.#kernel.attach(cgroup);
    const hooks = added + foreign;
    this.#complaint = "";
    if (this.#attached && hooks > 0) {
      this.#log.warn({ cgroup, hooks }, "socket programs were taken off by someone else");
      this.#onFound(hooks);
    }
    if (!this.#attached) this.#log.info({ cgroup, mode: this.#mode, added }, "socket hooks attached");
    this.#attached = true;
  }

  async #takeOff(): Promise<void> {
    const hooks = await this.#kernel.detach();
    this.#complaint = "";
    if (hooks > 0) this.#log.info({ hooks }, "socket hooks detached");
  }

  #complain(code: string, reason: string, hint: string | null): void {
    if (this.#complaint === `${code} ${reason}`) return;
    this.#complaint = `${code} ${reason}`;
    const fields = { code, cgroup: this.#cgroup, reason, hint };
    this.#log.warn(fields, "sockets of this host are not served");
  }
}
