// SPDX-License-Identifier: Apache-2.0
// Writes docs/benchmarks.md and its plots from bench/results/ (`make bench-report`). `--check` only compares the text, and
// needs nothing but what the product needs.
import { existsSync, mkdirSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { writeDocument } from "../scripts/generated-docs.js";
import { memorySection } from "./memory.js";
import { qemuSection } from "./qemu.js";
import {
  type AgentResults,
  type ConnectResults,
  type ControlResults,
  type PacketResults,
  type PathResults,
  type QemuResults,
  readResult,
} from "./results.js";
import {
  agentSection,
  connectSection,
  controlSection,
  packetSection,
  pathSection,
  type Section,
} from "./sections.js";

const PLOTS = fileURLToPath(new URL("../docs/benchmarks/", import.meta.url));

/** By result: where it is written by hand where the time goes, and what was tried. Those that exist are linked where a target is missed. */
const PROFILES: Readonly<Record<string, readonly string[]>> = {
  packet: ["packet-cost", "packet-cost-xdp"],
  path: ["path-cost", "packet-cost", "packet-cost-xdp"],
  connect: ["connect-cost"],
  control: ["load-cost"],
  agent: ["agent-cost"],
};

function profileText(result: string, text: string): string[] {
  if (!text.includes("**missed**")) return [];
  const written = (PROFILES[result] ?? []).filter((name) =>
    existsSync(new URL(`../docs/design/${name}.md`, import.meta.url)),
  );
  const links = written.map((name) => `[${name}](design/${name}.md)`);
  return links.length === 0
    ? []
    : [`Of what is missed, where the time goes and what was tried: ${links.join(", ")}.`];
}

function sections(): Section[] {
  const all: Section[] = [];
  const add = <T>(name: string, make: (results: T) => Section | null): void => {
    const results = readResult<T>(name);
    const section = results === null ? null : make(results);
    if (section === null) return;
    const { title, text, charts } = section;
    all.push({ title, text: [text, ...profileText(name, text)].join("\n\n"), charts });
  };
  add<PacketResults>("packet", packetSection);
  add<PathResults>("path", pathSection);
  add<QemuResults>("qemu", qemuSection);
  add<ConnectResults>("connect", connectSection);
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

\`make bench\` measures all of it but the emulated part on your machine and writes this page anew (about 15 minutes on two cores, as root);
\`make bench-quick\` gives a first idea in a few. What is compared runs side by side in one run, in turns; where a figure is a
ratio, it is one of medians, or the median of the ratios of single rounds where that is said. Absolute times say little about another machine.

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
