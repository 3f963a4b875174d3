// SPDX-License-Identifier: Apache-2.0
/** The socket side of the native library, as the agent's parts want to see it. */
import type { NativeLibrary } from "../native/lib.js";
import type { LoadedObject } from "../native/object.js";
import type { KernelAbilities } from "./kernel-options.js";
import type { SocketKernel } from "./socket-hooks.js";
import type { StaleSocketsDependencies } from "./stale-sockets.js";

/** What cannot be found out is taken to be missing. */
export function kernelAbilities(library: NativeLibrary): KernelAbilities {
  const features = new Map(library.probe().map(({ name, available }) => [name, available]));
  return {
    netnsCookie: library.netnsCookie(),
    setRetval: features.get("set_retval") === true,
    coarseClock: features.get("coarse_clock") === true,
    socketHooks: features.get("cgroup_sockets") !== false,
  };
}

/** The socket hooks of a cgroup. Programs are those of `object`, links are pinned below `pins`. */
export function socketKernel(library: NativeLibrary, object: LoadedObject, pins: string): SocketKernel {
  return {
    attach: async (cgroup) => {
      const ours = new Set(object.programs().map(({ id }) => id));
      const foreign = library.socketLinks(pins).filter(({ programId }) => !ours.has(programId)).length;
      const { added } = await object.attachSockets(cgroup);
      return { added, foreign };
    },
    detach: () => library.detachSockets(pins),
  };
}

export function udpDestroyer(library: NativeLibrary): StaleSocketsDependencies["destroy"] {
  return (targets) => library.destroyUdpSockets(targets);
}
