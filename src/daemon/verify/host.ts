// SPDX-License-Identifier: Apache-2.0
/** Settings of this host that break what is translated: the checks of `portolan doctor` that are about packets under way. */
import type { NativeLibrary } from "../../native/lib.js";
import { readLinks } from "../hooks.js";
import { type Check, checkHost } from "../host-checks.js";
import { gatherFacts } from "../host-facts.js";
import { DEFAULT_SNAT_RANGES } from "../snat-ports.js";
import { type Finding, failure } from "./finding.js";

const ABOUT_PACKETS: readonly string[] = [
  "br_netfilter",
  "ip_forward",
  "ip6_forwarding",
  "rp_filter",
  "forward_policy",
  "route_localnet",
];

export async function checkHostSettings(library: NativeLibrary, markBit: number): Promise<Finding[]> {
  const { links, addresses } = readLinks(library);
  const facts = await gatherFacts({
    links,
    addresses,
    missingFeatures: null,
    nativeError: null,
    snatRanges: DEFAULT_SNAT_RANGES,
    markBit,
    agentPinned: true,
  });
  return checkHost(facts)
    .filter(({ name, status }) => ABOUT_PACKETS.includes(name) && status !== "ok")
    .map(settingFinding);
}

function settingFinding({ name, status, detail, fix }: Check): Finding {
  return failure({
    check: "host",
    kind: "setting",
    severity: status === "fail" ? "fail" : "warn",
    where: "host",
    entry: name,
    found: { setting: detail },
    fix,
  });
}
