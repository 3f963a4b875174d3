// SPDX-License-Identifier: Apache-2.0
/** The part of the report about the emulated machine: instructions, in which IPVS is beside the others. */
import type { Chart } from "./charts.js";
import type { QemuResults } from "./results.js";
import { many, type Section, table, whole } from "./sections.js";

const KINDS: Readonly<Record<string, string>> = {
  "tcp-crr": "TCP connect, request, response, close",
  "tcp-rr": "TCP request/response, established",
};

export function qemuSection({ machine, guest, family, rounds, rows }: QemuResults): Section {
  const lines = rows.map(({ kind, path, services, instructions, ratio }) => [
    KINDS[kind] ?? kind,
    path,
    many(services, "Service"),
    whole(instructions),
    ratio.toFixed(3),
  ]);
  const text = `**Emulated: instructions, not time.** Linux ${guest.kernel} in ${guest.qemu} without KVM, whose clock counts instructions; one CPU. Client and
server are pods of one node (routed veths, IPv${family}); counted is all that the machine does for a transaction: both ends, the stack, and the
node between them. Medians of ${rounds} rounds. \`portolan-*\` are this repository's object with the maps that its compiler writes; \`ipvs\` and
\`iptables\` are set up in the shape that kube-proxy gives them (IPVS: masquerading mode, \`kube-ipvs0\`, \`conntrack=1\`, sets). A cache miss and
an add count the same, so a ratio says how much there is to do, not how long it takes: compare with the section above.

\`direct\` is the pod's own address: no Service, but the node's stack, the CNI's rules and the kernel's conntrack. \`portolan-shortcut\` goes past
these, so it can be below 1. \`portolan-tc\` adds to them; \`iptables\` keeps its translation in the conntrack entry that direct pays for too.

${table(["what", "path", "Services", "instructions", "of direct"], lines)}

${machine.date ?? ""}, commit ${machine.commit ?? ""}. \`make bench-qemu\` counts anew.`;
  const most = Math.max(...rows.map(({ services }) => services));
  const chart: Chart = {
    title: "Emulated: instructions against the direct path",
    xTitle: "",
    yTitle: "ratio of instruction counts",
    kind: "bars",
    rule: 1,
    rows: rows
      .filter(({ path, services }) => path !== "direct" && (services === 1 || services === most))
      .map(({ kind, path, services, ratio }) => ({
        x: path,
        y: ratio,
        who: many(services, "Service"),
        group: KINDS[kind] ?? kind,
      })),
  };
  return { title: "Emulated, with IPVS beside", text, charts: { qemu: chart } };
}
