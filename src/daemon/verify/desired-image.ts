// SPDX-License-Identifier: Apache-2.0
/** What an agent on this host would compile from a snapshot: with the host's addresses, and without what its programs have taken. */
import { compile } from "../../image/compile.js";
import { healthChecks } from "../../image/health-checks.js";
import type { Image } from "../../image/types.js";
import type { ProxyConfig, ReservedAddress, Snapshot } from "../../model/types.js";
import type { NativeLibrary } from "../../native/lib.js";
import { readLinks } from "../hooks.js";
import { HostView } from "../host-view.js";
import { type ExcludedListener, readListeners } from "../local-listeners.js";

export interface DesiredImageOptions {
  readonly library: NativeLibrary;
  readonly snapshot: Snapshot;
  readonly config: ProxyConfig;
  /** Addresses of others that no frontend may capture: the API server. */
  readonly reserved?: readonly ReservedAddress[];
}

export async function desiredImage({
  library,
  snapshot,
  config,
  reserved = [],
}: DesiredImageOptions): Promise<Image> {
  const host = new HostView(async () => [
    ...reserved,
    ...(await readListeners(healthCheckListeners(snapshot))),
  ]);
  host.setLocalAddresses(readLinks(library).localAddresses);
  await host.refresh();
  return compile(snapshot, config, host.facts ?? undefined);
}

/** An agent's own health check ports are no other program's. On which addresses it listens, it alone knows. */
function healthCheckListeners(snapshot: Snapshot): ExcludedListener[] {
  return healthChecks(snapshot).flatMap(({ port }) => [
    { address: null, port },
    ...snapshot.node.addresses.map((address) => ({ address, port })),
  ]);
}
