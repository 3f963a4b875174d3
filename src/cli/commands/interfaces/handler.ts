// SPDX-License-Identifier: Apache-2.0
import { InterfaceFlag, Role } from "../../../abi/enums.gen.js";
import { interfaceCodec } from "../../../abi/layout.gen.js";
import type { ForwardingReport } from "../../../daemon/forwarding-file.js";
import type { Attachment } from "../../../native/hooks.js";
import { ipFromBytes } from "../../../net/ip.js";
import type { Handler } from "../../command.js";
import { ExitCode } from "../../exit-codes.js";
import { type OpenMaps, withMaps } from "../../open-maps.js";
import type { Column } from "../../output.js";

/** An interface that the dataplane knows; index 0 is the node itself. */
interface InterfaceRow {
  readonly ifindex: number;
  /** "" when it is not in this network namespace. */
  readonly name: string;
  readonly role: string;
  /** How our programs are attached; null: not at all, or in one direction only. */
  readonly mode: "tcx" | "clsact" | null;
  /** How it carries our XDP program; null: it does not. */
  readonly xdp: "native" | "generic" | "other" | null;
  /** Of the node: the addresses that its own processes are taken to have. */
  readonly masquerade4: string | null;
  readonly masquerade6: string | null;
  /** What comes in here is a local pod's (8.3: BridgeInterface, InterfaceNamePrefix). */
  readonly localPods: boolean;
  /** Which way new flows take by it; null: it is no interface. */
  readonly forwarding: "shortcut" | "stack" | null;
  /** Why it is the stack; null where it is not, and where no agent says so. */
  readonly forwardingWhy: string | null;
  /** Other programs at its hooks, in the order in which they run: "in tcx other". */
  readonly others: readonly string[];
}

/** The key of the node itself, which is no interface. */
const NODE_KEY = 0;

const ROLE_NAMES: ReadonlyMap<number, string> = new Map(
  Object.entries(Role).map(([name, value]) => [value, name.toLowerCase()]),
);

const COLUMNS: readonly Column<InterfaceRow>[] = [
  {
    header: "INTERFACE",
    value: ({ name, ifindex }) => (ifindex === NODE_KEY ? "(this node)" : name || "(not here)"),
  },
  { header: "INDEX", value: ({ ifindex }) => ifindex, align: "right" },
  { header: "ROLE", value: ({ role }) => role },
  {
    header: "PROGRAMS",
    value: ({ role, mode }) => mode ?? (role === "bridge" || role === "node" ? "" : "missing"),
  },
  { header: "XDP", value: ({ xdp }) => xdp ?? "" },
  { header: "MASQUERADE IPV4", value: ({ masquerade4 }) => masquerade4 ?? "" },
  { header: "MASQUERADE IPV6", value: ({ masquerade6 }) => masquerade6 ?? "" },
  { header: "LOCAL PODS", value: ({ localPods }) => (localPods ? "yes" : "") },
  { header: "FORWARDING", value: ({ forwarding }) => forwarding ?? "" },
  { header: "OTHERS", value: ({ others }) => others.join(", ") },
];

function addressText(bytes: Uint8Array): string | null {
  return bytes.some((byte) => byte !== 0) ? ipFromBytes(bytes).text : null;
}

function modeOf(attachments: readonly Attachment[]): "tcx" | "clsact" | null {
  const ours = attachments.filter((attachment) => attachment.ours);
  const both =
    ours.some(({ direction }) => direction === "in") && ours.some(({ direction }) => direction === "out");
  return both ? (ours[0] as Attachment).mode : null;
}

async function readRows(
  { maps, interfaces, attachments: attachmentsOf, xdp: xdpOf }: OpenMaps,
  report: ForwardingReport | null,
): Promise<InterfaceRow[]> {
  const closed = new Map(report?.closed.map(({ ifindex, why }) => [ifindex, why]));
  const { count, keys, values } = await maps.dump("interfaces");
  const view = new DataView(keys.buffer, keys.byteOffset, keys.byteLength);
  const ifindexes = Array.from({ length: count }, (_, i) => view.getUint32(4 * i, true));
  const names = new Map(interfaces().map(({ ifindex, name }) => [ifindex, name]));
  const attachments = await attachmentsOf(ifindexes.filter((ifindex) => names.has(ifindex)));
  const xdp = new Map(
    (await xdpOf(ifindexes.filter((ifindex) => names.has(ifindex)))).map((hook) => [hook.ifindex, hook]),
  );
  return ifindexes
    .map((ifindex, i): InterfaceRow => {
      const { role, masquerade4, masquerade6, flags } = interfaceCodec.decode(
        values,
        i * interfaceCodec.size,
      );
      const own = attachments.filter((attachment) => attachment.ifindex === ifindex);
      const hook = xdp.get(ifindex);
      const open = (flags & InterfaceFlag.INTERFACE_SHORTCUT) !== 0;
      return {
        ifindex,
        name: names.get(ifindex) ?? "",
        role: ROLE_NAMES.get(role) ?? String(role),
        mode: modeOf(own),
        xdp: hook?.ours ? hook.mode : null,
        masquerade4: addressText(masquerade4),
        masquerade6: addressText(masquerade6),
        localPods: (flags & InterfaceFlag.INTERFACE_LOCAL_PODS) !== 0,
        forwarding: ifindex === NODE_KEY ? null : open ? "shortcut" : "stack",
        forwardingWhy:
          ifindex === NODE_KEY || open ? null : (closed.get(ifindex) ?? report?.decision.why ?? null),
        others: [
          ...(hook !== undefined && hook.mode !== null && !hook.ours ? [`in xdp ${hook.name}`] : []),
          ...own
            .filter(({ ours }) => !ours)
            .map(({ direction, mode, name }) => `${direction} ${mode} ${name}`),
        ],
      };
    })
    .sort((a, b) => a.ifindex - b.ifindex);
}

/** `portolan interfaces`. */
export const interfaces: Handler<object> = (options, printer) =>
  withMaps(options, async (open) => {
    const report = await open.forwarding();
    const rows = await readRows(open, report);
    const count = await printer.print({
      name: "interfaces",
      columns: COLUMNS,
      rows,
      id: ({ ifindex, name }) => `interface/${ifindex === NODE_KEY ? "node" : name || `#${ifindex}`}`,
    });
    if (count === 0) printer.note("no interface in the maps");
    if (report !== null && !printer.structured) {
      const { way, why } = report.decision;
      printer.note(
        `new flows of pods go ${way === "stack" ? "through the stack" : "past the stack"}: ${why}`,
      );
      for (const { name, forwardingWhy } of rows)
        if (way === "shortcut" && forwardingWhy !== null)
          printer.note(`${name}: the stack: ${forwardingWhy}`);
    }
    return ExitCode.ok;
  });
