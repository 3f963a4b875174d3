// SPDX-License-Identifier: Apache-2.0
// Writes docs/benchmarks.md and its plots from bench/results/ (`make bench-report`). `--check` only compares the text, and
// needs nothing but what the product needs.
import { mkdirSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { writeDocument } from "../scripts/generated-docs.js";
import { memorySection } from "./memory.js";
import { qemuSection } from "./qemu.js";
import {
  type AgentResults,
  type ControlResults,
  type PacketResults,
  type PathResults,
  type QemuResults,
  readResult,
} from "./results.js";
import { agentSection, controlSection, packetSection, pathSection, type Section } from "./sections.js";

const PLOTS = fileURLToPath(new URL("../docs/benchmarks/", import.meta.url));

function sections(): Section[] {
  const all: Section[] = [];
  const add = <T>(name: string, make: (results: T) => Section | null): void => {
    const results = readResult<T>(name);
    const section = results === null ? null : make(results);
    if (section !== null) all.push(section);
  };
  add<PacketResults>("packet", packetSection);
  add<PathResults>("path", pathSection);
  add<QemuResults>("qemu", qemuSection);
  add<ControlResults>("control", controlSection);
  add<AgentResults>("agent", agentSection);
  add<AgentResults>("agent", memorySection);
  return all;
}

function documentOf(all: readonly Section[]): string {
  const parts = all.map(({ title, text, charts }) => {
    const plots = Object.entries(charts).map(([name, chart]) => `![${chart.title}](benchmarks/${name}.svg)`);
    return [`## ${title}`, text, ...plots].join("\n\n");
  });
  return `# Benchmarks

<!-- Written by \`make bench-report\` from bench/results/: change nothing here. -->

\`make bench\` measures all of it on your machine and writes this page anew (about 20 minutes on two cores, as root);
\`make bench-quick\` gives a first idea in a few. What is compared runs side by side in one run, in turns; where a figure is a
ratio, it is one of medians. Absolute times say little about another machine.

${parts.join("\n\n")}
`;
}

const all = sections();
if (!process.argv.includes("--check")) {
  const { svgOf } = await import("./charts.js");
  mkdirSync(PLOTS, { recursive: true });
  for (const { charts } of all)
    for (const [name, chart] of Object.entries(charts))
      writeFileSync(`${PLOTS}${name}.svg`, await svgOf(chart));
}
const page = new URL("../docs/benchmarks.md", import.meta.url);
writeDocument(import.meta.url, page, () => documentOf(all), "bench-report");
