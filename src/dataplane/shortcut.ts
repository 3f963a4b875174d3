// SPDX-License-Identifier: Apache-2.0
/** By which interfaces new flows may take the shortcut. A pure function of what the kernel says about them. */
import type { InterfacePlan, Link } from "./interfaces.js";

/** What is known of interfaces beside their links. */
export interface ShortcutFacts {
  /** What else would see packets at an interface's hooks, in words. */
  readonly others: ReadonlyMap<number, string>;
  /** Uplinks and overlays whose strict rp_filter would look at packets, and the shortcut does not; empty when that is no matter. */
  readonly strict: ReadonlySet<number>;
}

/** Roots of a queue that does nothing to a packet. */
const NO_QUEUE: ReadonlySet<string> = new Set(["noqueue"]);

/** Interfaces that are closed to new flows' shortcut, and why. What is not named here is open. */
export function closedToShortcut(
  plans: readonly InterfacePlan[],
  links: readonly Link[],
  { others, strict }: ShortcutFacts,
): ReadonlyMap<number, string> {
  const byIndex = new Map(links.map((link) => [link.ifindex, link]));
  const oneBridge = theBridge(plans, byIndex);
  const closed = new Map<number, string>();
  for (const { ifindex, role, mtu } of plans) {
    const why = reason();
    if (why !== null) closed.set(ifindex, why);

    function reason(): string | null {
      const link = byIndex.get(ifindex);
      const other = others.get(ifindex);
      if (other !== undefined) return `${other} would not see its packets`;
      if (mtu === 0) return "its MTU is not known";
      const bridged = role === "bridge" || (role === "pod" && link?.master !== 0);
      if (bridged && oneBridge === null) return "pods hang on more than one bridge, or on other links too";
      if (role === "pod" && !NO_QUEUE.has(link?.qdisc ?? "?"))
        return `its qdisc ${link?.qdisc ?? "(unknown)"} would not see its packets`;
      return strict.has(ifindex) ? "its strict rp_filter would not see packets" : null;
    }
  }
  return closed;
}

/**
 * The bridge that all pods hang on; null: there is none such. With more than one, or pods beside it, a port's packets could be in the name
 * of a pod that is not behind that bridge: the stack would notice.
 */
function theBridge(plans: readonly InterfacePlan[], links: ReadonlyMap<number, Link>): number | null {
  const masters = new Set(
    plans.filter(({ role }) => role === "pod").map(({ ifindex }) => links.get(ifindex)?.master ?? 0),
  );
  const [only = 0] = masters;
  return masters.size === 1 && only !== 0 ? only : null;
}
