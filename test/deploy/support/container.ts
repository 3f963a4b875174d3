// SPDX-License-Identifier: Apache-2.0
/** What a container runtime makes of the DaemonSet's agent: the rehearsed image as a read-only root, its mounts, its capabilities. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { V1Container } from "@kubernetes/client-node";
import { rehearse, SETPRIV } from "./rehearsal.js";

/** What the pod's volumes are here, by the path in the container. */
export type Mounts = Readonly<Record<string, string>>;

const quoted = (text: string): string => `'${text.replaceAll("'", "'\\''")}'`;

export class Container {
  readonly #root: string;
  readonly #spec: V1Container;
  readonly #mounts: Mounts;

  constructor(spec: V1Container, mounts: Mounts) {
    this.#spec = spec;
    this.#mounts = mounts;
    this.#root = mkdtempSync(join(tmpdir(), "portolan-container-"));
    rehearse(this.#root);
    for (const { mountPath } of spec.volumeMounts ?? []) {
      const path = join(this.#root, mountPath);
      if (mountPath.endsWith(".lock")) {
        mkdirSync(join(path, ".."), { recursive: true });
        writeFileSync(path, "");
      } else mkdirSync(path, { recursive: true });
    }
  }

  /**
   * A command line that runs one in the container, in the network namespace that it is run in. All mounts are in a mount namespace of
   * its own and go with it.
   */
  argv(command: readonly string[], capabilities: readonly string[] = this.capabilities): readonly string[] {
    const root = this.#root;
    const mounts = (this.#spec.volumeMounts ?? []).flatMap(({ mountPath, readOnly }) => {
      const source = this.#mounts[mountPath];
      if (source === undefined) throw new Error(`nothing is given for ${mountPath}`);
      const target = quoted(root + mountPath);
      return [
        `mount --bind ${quoted(source)} ${target}`,
        ...(readOnly === true ? [`mount -o remount,bind,ro ${target}`] : []),
      ];
    });
    const script = [
      "set -e",
      `mount --bind ${quoted(root)} ${quoted(root)}`,
      `mount -t proc -o ro proc ${quoted(`${root}/proc`)}`,
      `mount -t sysfs -o ro sysfs ${quoted(`${root}/sys`)}`,
      ...mounts,
      // As runtimes do: /proc/sys cannot be written, whatever the capabilities are.
      `mount -o remount,bind,ro ${quoted(root)}`,
      `exec chroot ${quoted(root)} "$@"`,
    ].join("\n");
    const set = ["-all", ...capabilities.map((name) => `+${name.toLowerCase()}`)].join(",");
    const limits = [`--bounding-set=${set}`, "--inh-caps=-all", "--no-new-privs"];
    return [
      ...["unshare", "--mount", "--propagation", "private", "/bin/sh", "-c", script, "container"],
      ...["/usr/bin/env", "-i", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
      ...[SETPRIV, ...limits, ...command],
    ];
  }

  get capabilities(): readonly string[] {
    return this.#spec.securityContext?.capabilities?.add ?? [];
  }

  /** The container's own command with its arguments. */
  command(node: string): readonly string[] {
    const { command = [], args = [] } = this.#spec;
    return [...command, ...args].map((arg) => arg.replace("$(NODE_NAME)", node));
  }

  close(): void {
    rmSync(this.#root, { recursive: true, force: true });
  }
}
