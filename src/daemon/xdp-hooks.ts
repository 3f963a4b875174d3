// SPDX-License-Identifier: Apache-2.0
/** The XDP hooks of this network namespace, as their keeper wants to see them. */
import type { XdpHooks, XdpOutcome } from "../dataplane/xdp.js";
import { NativeError } from "../native/errors.js";
import type { NativeLibrary } from "../native/lib.js";
import type { LoadedObject } from "../native/object.js";
import type { XdpHookMode, XdpState } from "../native/xdp.js";

export const XDP_PROGRAM = "ptl_xdp";

/** The program is that of `object`, links are pinned below `pins`. */
export class NativeXdpHooks implements XdpHooks {
  readonly #library: NativeLibrary;
  readonly #object: LoadedObject;
  readonly #pins: string;
  readonly programId: number | null;

  constructor(library: NativeLibrary, object: LoadedObject, pins: string) {
    this.#library = library;
    this.#object = object;
    this.#pins = pins;
    this.programId = object.programs().find(({ name }) => name === XDP_PROGRAM)?.id ?? null;
  }

  async states(ifindexes: readonly number[]): Promise<readonly XdpState[]> {
    return await this.#library.xdpStates(ifindexes);
  }

  async attach(ifindex: number, mode: XdpHookMode): Promise<XdpOutcome> {
    try {
      return { change: await this.#object.attachXdp(ifindex, mode), error: null };
    } catch (error) {
      if (!(error instanceof NativeError)) throw error;
      const { code, message, hint } = error;
      return {
        error: hint === null ? message : `${message}. ${hint}`,
        code: code === "E_NATIVE_NO_DEVICE" ? "gone" : code === "E_NATIVE_XDP_NONE" ? "none" : "failed",
      };
    }
  }

  async detach(ifindexes: readonly number[]): Promise<void> {
    await this.#library.detachXdp(this.#pins, ifindexes);
  }
}
