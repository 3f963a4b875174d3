// SPDX-License-Identifier: Apache-2.0
/** The comparison of two states, as data. */
import { MAPS } from "../../../abi/maps.gen.js";
import type { Consequences } from "../../../dataplane/consequences.js";
import type { Refusal } from "../../../dataplane/refusal.js";
import { ticksOf } from "../../../dataplane/view.js";
import { compile, NO_HOST_FACTS } from "../../../image/compile.js";
import { type ImageDifference, imageDifference } from "../../../image/difference.js";
import type { Image } from "../../../image/types.js";
import type { HostFacts, Problem } from "../../../model/types.js";
import type { MapWrite } from "../../../native/kernel.js";
import { MemoryKernel } from "../../../native/memory.js";
import { flowOptions } from "../flows/timeouts.js";
import { type DecodedEntry, decodeEntries } from "../maps/decode.js";
import type { Side } from "./side.js";

/** A run of writes to one map; they happen in this order. */
export interface ReportedStep {
  readonly map: string;
  readonly kind: "update" | "delete";
  readonly count: number;
  /** Where they were asked for. */
  readonly entries?: readonly DecodedEntry[];
}

export interface DiffReport extends ImageDifference {
  readonly from: string;
  readonly to: string;
  readonly writes: number;
  readonly deletes: number;
  /** One for each transaction: an agent that has read the maps makes no more. */
  readonly ffiCalls: number;
  readonly steps: readonly ReportedStep[];
  readonly consequences: Consequences;
  /** Service ports that would be left as they are, since they do not fit. */
  readonly refused: readonly Refusal[];
  readonly problems: readonly Problem[];
}

export async function diffReport(from: Side, to: Side, withEntries: boolean): Promise<DiffReport> {
  const [{ dryRun }, { consequencesOf }] = await Promise.all([
    import("../../../dataplane/dry-run.js"),
    import("../../../dataplane/consequences.js"),
  ]);
  const host = await hostFacts(from, to);
  const kernel = await kernelOf(from, host);
  const before = kernel.clone();
  const image = await imageOf(to, host);
  const run = await dryRun(kernel, image);
  const steps = run.transactions.flat();
  const nowNs = from.kind === "maps" ? from.opened.nowNs() : 0n;
  const source = from.kind === "maps" ? from.opened.maps : null;
  const options = { ...(await flowOptions(ticksOf(nowNs))), nowNs };
  const entries = (kind: MapWrite["kind"]): number =>
    steps.filter((step) => step.kind === kind).reduce((sum, { count }) => sum + count, 0);
  return {
    from: from.text,
    to: to.text,
    ...imageDifference(run.before, run.after),
    writes: entries("update"),
    deletes: entries("delete"),
    ffiCalls: run.transactions.length,
    steps: steps.map((step) => reportedStep(step, withEntries)),
    consequences: await consequencesOf(source, before, kernel, options),
    refused: run.result.refused,
    problems: [from, to].flatMap((side) => (side.kind === "manifests" ? side.desired.problems : [])),
  };
}

/** Manifests do not know a node's addresses; maps do, as far as NodePorts are served there. */
async function hostFacts(...sides: readonly Side[]): Promise<HostFacts> {
  for (const side of sides) {
    if (side.kind !== "maps") continue;
    const { imageIn } = await import("../../../dataplane/dry-run.js");
    const { nodePortAddresses } = await imageIn(side.copy);
    return { localAddresses: nodePortAddresses, reserved: [] };
  }
  return NO_HOST_FACTS;
}

function compiled(side: Side & { kind: "manifests" }, host: HostFacts): Image {
  return compile(side.desired.snapshot, side.desired.config, host);
}

async function kernelOf(side: Side, host: HostFacts): Promise<MemoryKernel> {
  if (side.kind === "maps") return side.copy;
  const { dryRun } = await import("../../../dataplane/dry-run.js");
  const kernel = new MemoryKernel();
  await dryRun(kernel, compiled(side, host));
  return kernel;
}

async function imageOf(side: Side, host: HostFacts): Promise<Image> {
  if (side.kind === "manifests") return compiled(side, host);
  const { imageIn } = await import("../../../dataplane/dry-run.js");
  return imageIn(side.copy);
}

function reportedStep(write: MapWrite, withEntries: boolean): ReportedStep {
  const { map, kind, count } = write;
  if (!withEntries) return { map, kind, count };
  // A delete has no values, and a cell of an array that is written all zero is written all the same.
  const { valueSize } = MAPS[map];
  const values = kind === "delete" ? new Uint8Array(count * valueSize) : write.values;
  return { map, kind, count, entries: [...decodeEntries(MAPS[map], { ...write, values }, true)] };
}
