// SPDX-License-Identifier: Apache-2.0
/** The real programs with private maps: nothing is pinned, nothing is attached, all of it ends with the handle. */
import { Detector } from "../../../src/abi/enums.gen.js";
import type { PtlConfig } from "../../../src/abi/layout.gen.js";
import { completeMarks } from "../../../src/dataplane/flow-marks.js";
import { NativeLibrary } from "../../../src/native/lib.js";
import type { LoadedObject } from "../../../src/native/object.js";
import { addressBytes } from "../../support/packet-address.js";

export type ProgramName = "ptl_pod_in" | "ptl_pod_out" | "ptl_net_in" | "ptl_net_out" | "ptl_xdp";

/** Settings of the tests unless they say otherwise; times in ticks. */
export const TEST_CONFIG: PtlConfig = {
  snatPortBase: [20000, 61000],
  snatPortCount: [1000, 1000],
  timeoutTcpOpening: 60,
  timeoutTcpEstablished: 86400,
  timeoutTcpHalfClosed: 600,
  timeoutTcpClosed: 5,
  timeoutUdpUnreplied: 30,
  timeoutUdpReplied: 180,
  mark: 0,
  masqueradeMark: 0,
  options: 0,
  hostNetns: [0, 0],
  // clients and backends of addresses.ts are pods: 10.244.0.0/16, fd00:244::/32
  detector4: Detector.DETECT_NETWORK,
  detector6: Detector.DETECT_NETWORK,
  localNetwork4: addressBytes("10.244.0.0"),
  localMask4: addressBytes("255.255.0.0"),
  localNetwork6: addressBytes("fd00:244::"),
  localMask6: addressBytes("ffff:ffff::"),
};

/** Small maps: they are dumped whole after each step. */
const MAX_ENTRIES = {
  nat4: 1024,
  nat6: 1024,
  addresses4: 1024,
  addresses6: 1024,
  frontends4: 1024,
  frontends6: 1024,
  fragments4: 1024,
  fragments6: 1024,
  affinity4: 1024,
  affinity6: 1024,
  source_ranges4: 256,
  source_ranges6: 256,
  events: 4096,
};

export interface TestKernelOptions {
  /** Load the XDP program too. */
  readonly xdp?: boolean;
  /** Where maps and links are pinned; default: nowhere. */
  readonly pins?: string;
  /** The marks of `flow_marks` are complete from the beginning. PORTOLAN_BPF_MARKS=1: in every test. */
  readonly marks?: boolean;
}

let library: NativeLibrary | undefined;

/** The native library, opened once. PORTOLAN_BPF_OBJECT names another object file, such as a mutant. */
export async function openTestKernel(
  config: Partial<PtlConfig>,
  file?: string,
  { xdp = false, pins = "", marks = process.env.PORTOLAN_BPF_MARKS === "1" }: TestKernelOptions = {},
): Promise<LoadedObject> {
  library ??= new NativeLibrary();
  const object = file ?? process.env.PORTOLAN_BPF_OBJECT;
  const kernel = await library.open({
    pins,
    config: { ...TEST_CONFIG, ...config },
    maxEntries: MAX_ENTRIES,
    xdp,
    ...(object === undefined ? {} : { object }),
  });
  if (marks) await completeMarks(kernel);
  return kernel;
}
