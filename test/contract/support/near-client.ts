// SPDX-License-Identifier: Apache-2.0
/** A process with a source: KUBECONFIG. Prints a JSON line when it is there, and for each watch that ends; ends with stdin. */

import { KubeSource } from "../../../src/source/kube/kube-source.js";
import { loadKubeConnection } from "../../../src/source/kube/kubeconfig.js";
import { createTransport } from "../../../src/source/kube/transport.js";
import { silentLogger } from "../../../src/util/log.js";
import { systemTimers } from "../../../src/util/timers.js";

const [kubeconfig = ""] = process.argv.slice(2);
const timers = systemTimers;
const say = (what: object): void => console.log(JSON.stringify(what));
const connection = await loadKubeConnection({ kubeconfig, master: "" }, { logger: silentLogger, timers });
const source = new KubeSource(
  { nodeName: "node-a" },
  {
    transport: createTransport(connection, { version: "0.1.0", timers }),
    logger: silentLogger,
    observer: { watchEnded: (resource, result) => say({ resource, result }) },
  },
);
process.stdin.resume();
process.stdin.on("end", () => void source.close().then(() => process.exit(0)));
await source.start(new AbortController().signal);
say({ synced: true });
