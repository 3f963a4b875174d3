// SPDX-License-Identifier: Apache-2.0
import type { HostFacts } from "../../src/daemon/host-checks.js";
import { DEFAULT_SNAT_RANGES } from "../../src/daemon/snat-ports.js";

/** A host on which all is well. */
export const GOOD_HOST: HostFacts = {
  kernelRelease: "6.18.5",
  missingFeatures: [],
  capabilities: (1n << 41n) - 1n,
  nativeError: null,
  bpffs: "/sys/fs/bpf",
  cgroup2: "/sys/fs/cgroup",
  kernelBtf: true,
  jit: "1",
  bridges: ["cni0"],
  bridgeCallIptables: "1",
  bridgeCallIp6tables: "1",
  invalidDrops: [],
  ipForward: "1",
  ip6Forward: "1",
  hasRoutableIp6: true,
  rpFilter: "1",
  ingressQdiscs: [],
  localPorts: { first: 32768, last: 60999 },
  snatRanges: DEFAULT_SNAT_RANGES,
  forwardPolicies: [],
  droppingChains: [],
  agentPinned: true,
  routeLocalnet: "0",
  xdp: [],
  forwarding: null,
  obstacles: [],
};
