// SPDX-License-Identifier: Apache-2.0
/** Runs programs on packets many times, and believes no figure unless the counters say that every repeat took the path. */
import { REASONS, Reason } from "../../../src/abi/enums.gen.js";
import { trafficCodec } from "../../../src/abi/layout.gen.js";
import type { MapName } from "../../../src/abi/maps.gen.js";
import type { LoadedObject } from "../../../src/native/object.js";
import type { Family } from "../../../src/net/ip.js";
import type { ReasonName } from "../../bpf/support/lab.js";
import type { FlowPlan, Restorer } from "./restorer.js";

export interface Run {
  /** For errors. */
  readonly what: string;
  readonly kernel: LoadedObject;
  readonly program: string;
  readonly plan: FlowPlan;
  readonly repeats: number;
  /** What each repeat counts: these and nothing else, once each. */
  readonly counts: readonly ReasonName[];
  /** What the program returns. */
  readonly verdict: number;
}

export class PacketRunner {
  readonly #restorer: Restorer;

  constructor(restorer: Restorer) {
    this.#restorer = restorer;
  }

  /** Nanoseconds of one repeat. @throws when not every repeat took the path. */
  async run({ what, kernel, program, plan, repeats, counts, verdict }: Run): Promise<number> {
    const id = kernel.programs().find(({ name }) => name === program)?.id;
    if (id === undefined) throw new Error(`${program} is not loaded`);
    this.#restorer.plan(plan);
    this.#restorer.target(id);
    const before = await counted(kernel);
    const timing = this.#restorer.run(repeats);
    const after = await counted(kernel);
    const seen = REASONS.map(({ id: i, key }) => [key, (after[i] ?? 0) - (before[i] ?? 0)] as const).filter(
      ([, packets]) => packets !== 0,
    );
    const wanted = (key: string, packets: number): boolean =>
      packets === repeats && counts.some((name) => name === key);
    if (timing.verdict !== verdict || seen.length !== counts.length || !seen.every((each) => wanted(...each)))
      throw new Error(
        `${what}: not ${repeats} times ${counts.join(", ")} but ${JSON.stringify(seen)}; verdict ${timing.verdict}`,
      );
    return timing.ns;
  }

  /** The same with nothing of ours behind the restoring. */
  floor(
    program: "bench_empty" | "bench_empty_xdp" | "bench_lookup",
    plan: FlowPlan,
    repeats: number,
  ): number {
    this.#restorer.plan(plan);
    this.#restorer.target(program);
    return this.#restorer.run(repeats).ns;
  }
}

/** Packets by reason. */
async function counted(kernel: LoadedObject): Promise<readonly number[]> {
  const { values } = await kernel.dump("counters", Reason.COUNT);
  return Array.from({ length: Reason.COUNT }, (_, i) =>
    Number(trafficCodec.decode(values, i * trafficCodec.size).packets),
  );
}

/** Forgets all flows. */
export async function emptyTable(kernel: LoadedObject, family: Family): Promise<void> {
  const map: MapName = `nat${family}`;
  const { count, keys } = await kernel.dump(map);
  if (count === 0) return;
  await kernel.apply([{ map, kind: "delete", count, keys, values: new Uint8Array() }]);
}
