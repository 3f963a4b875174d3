// SPDX-License-Identifier: Apache-2.0
/** What audits have found beside entries of the service maps: what others do to our programs and pins. */
import { Counter, type Registry } from "prom-client";

/** What was taken off, or had another in its place: an interface's programs, a cgroup's, the pin of a map. */
export type AttachmentKind = "interface" | "socket" | "pin";

const KINDS: readonly AttachmentKind[] = ["interface", "socket", "pin"];

export class AuditMetrics {
  readonly #repaired: Counter<"kind">;

  constructor(registry: Registry) {
    this.#repaired = new Counter({
      name: "portolan_audit_repaired_attachments_total",
      help: "Programs and pins that somebody else had taken away or replaced: interfaces, socket hooks, pins of maps",
      labelNames: ["kind"],
      registers: [registry],
    });
    for (const kind of KINDS) this.#repaired.inc({ kind }, 0);
  }

  repaired(kind: AttachmentKind, count: number): void {
    this.#repaired.inc({ kind }, count);
  }
}
