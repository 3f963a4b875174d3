// SPDX-License-Identifier: Apache-2.0
/**
 * What kube-proxy sets up of the host when it starts (12.7, section 14). Only where Portolan is in its place: with manifests
 * the host's settings are left as they are.
 */
import type { ProxySettings } from "../config/proxy-settings.js";
import type { NativeLibrary } from "../native/lib.js";
import type { Logger } from "../util/log.js";
import { ensureBpffs } from "./bpffs.js";
import { kernelAbilities } from "./native-sockets.js";
import { setConntrack } from "./sysctls.js";

/** @throws AppError E_SYSCTL */
export function setUpHost(
  { kubeProxy }: ProxySettings,
  log: Logger,
  onReadOnlySys: (message: string) => void,
): void {
  setConntrack(kubeProxy.conntrack, { log, onReadOnlySys });
}

/**
 * --init-only: the privileged part, a bpf file system among it, and a look at what the kernel can do. The agent that runs after it writes no setting that
 * is as it should be.
 *
 * @throws AppError E_SYSCTL, E_BPFFS_TAKEN, E_NO_BPFFS
 */
export function initOnly(
  settings: ProxySettings,
  bpfRoot: string,
  library: NativeLibrary,
  log: Logger,
): void {
  ensureBpffs(bpfRoot, library, log);
  setUpHost(settings, log, () => {});
  const { socketHooks, setRetval } = kernelAbilities(library);
  log.info({ socketHooks, setRetval }, "host set up");
}
