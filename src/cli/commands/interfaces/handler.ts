// SPDX-License-Identifier: Apache-2.0
import { Role } from "../../../abi/enums.gen.js";
import { interfaceCodec } from "../../../abi/layout.gen.js";
import type { Attachment } from "../../../native/hooks.js";
import { ipFromBytes } from "../../../net/ip.js";
import type { Handler } from "../../command.js";
import { ExitCode } from "../../exit-codes.js";
import { type OpenMaps, withMaps } from "../../open-maps.js";
import type { Column } from "../../output.js";

/** An interface that the dataplane knows. */
interface InterfaceRow {
  readonly ifindex: number;
  /** "" when it is not in this network namespace. */
  readonly name: string;
  readonly role: string;
  /** How our programs are attached; null: not at all, or in one direction only. */
  readonly mode: "tcx" | "clsact" | null;
  readonly masquerade4: string | null;
  readonly masquerade6: string | null;
  /** Other programs at its hooks, in the order in which they run: "in tcx other". */
  readonly others: readonly string[];
}

const ROLE_NAMES: ReadonlyMap<number, string> = new Map(
  Object.entries(Role).map(([name, value]) => [value, name.toLowerCase()]),
);

const COLUMNS: readonly Column<InterfaceRow>[] = [
  { header: "INTERFACE", value: ({ name }) => name },
  { header: "INDEX", value: ({ ifindex }) => ifindex, align: "right" },
  { header: "ROLE", value: ({ role }) => role },
  {
    header: "PROGRAMS",
    value: ({ role, mode }) => mode ?? (role === "bridge" ? "" : "missing"),
  },
  { header: "MASQUERADE IPV4", value: ({ masquerade4 }) => masquerade4 ?? "" },
  { header: "MASQUERADE IPV6", value: ({ masquerade6 }) => masquerade6 ?? "" },
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

async function readRows({ library, maps }: OpenMaps): Promise<InterfaceRow[]> {
  const { count, keys, values } = await maps.dump("interfaces");
  const view = new DataView(keys.buffer, keys.byteOffset, keys.byteLength);
  const ifindexes = Array.from({ length: count }, (_, i) => view.getUint32(4 * i, true));
  const names = new Map(library.interfaces().map(({ ifindex, name }) => [ifindex, name]));
  const attachments = await library.attachments(ifindexes.filter((ifindex) => names.has(ifindex)));
  return ifindexes
    .map((ifindex, i): InterfaceRow => {
      const { role, masquerade4, masquerade6 } = interfaceCodec.decode(values, i * interfaceCodec.size);
      const own = attachments.filter((attachment) => attachment.ifindex === ifindex);
      return {
        ifindex,
        name: names.get(ifindex) ?? "",
        role: ROLE_NAMES.get(role) ?? String(role),
        mode: modeOf(own),
        masquerade4: addressText(masquerade4),
        masquerade6: addressText(masquerade6),
        others: own
          .filter(({ ours }) => !ours)
          .map(({ direction, mode, name }) => `${direction} ${mode} ${name}`),
      };
    })
    .sort((a, b) => a.ifindex - b.ifindex);
}

/** `portolan interfaces`. */
export const interfaces: Handler<object> = (options, printer) =>
  withMaps(options, async (open) => {
    printer.list("interfaces", COLUMNS, await readRows(open), "no interface in the maps");
    return ExitCode.ok;
  });
