// SPDX-License-Identifier: Apache-2.0
/** Are the programs where packets and sockets pass: the right ones, of this build, in front, with one set of settings? Pure. */
import { ROLES, type ServedInterface } from "../../dataplane/attach.js";
import type { Attachment } from "../../native/hooks.js";
import { SOCKET_HOOKS, type SocketLink } from "../../native/sockets.js";
import { DIRECTIONS, programName } from "../hooks.js";
import type { SocketLb } from "../kernel-options.js";
import { type Finding, failure } from "./finding.js";

/** What a program of ours must be. */
export interface ProgramIdentity {
  /** Hash of the instructions that this build has on this kernel, by name; null: not known. */
  readonly tags: ReadonlyMap<string, string> | null;
  /** Ids of the programs that the running agent has loaded; null: no agent was asked. */
  readonly ids: ReadonlySet<number> | null;
}

export interface HooksSeen {
  readonly expected: readonly ServedInterface[];
  /** Of every interface of this network namespace. */
  readonly attachments: readonly Attachment[];
  /** Names of all interfaces. */
  readonly names: ReadonlyMap<number, string>;
  readonly identity: ProgramIdentity;
}

const hookName = (direction: "in" | "out"): string => (direction === "in" ? "ingress" : "egress");

export function checkPrograms({ expected, attachments, names, identity }: HooksSeen): Finding[] {
  const findings: Finding[] = [];
  const known = new Set(expected.map(({ ifindex }) => ifindex));
  for (const { ifindex, name, role } of expected) {
    for (const direction of DIRECTIONS) {
      const hook = attachments.filter((each) => each.ifindex === ifindex && each.direction === direction);
      findings.push(...checkHook(name, direction, programName(ROLES[role], direction), hook, identity));
    }
  }
  for (const { ifindex, direction, name, ours } of attachments) {
    if (!ours || known.has(ifindex)) continue;
    const where = names.get(ifindex) ?? `interface ${ifindex}`;
    const entry = hookName(direction);
    findings.push(failure({ check: "programs", kind: "extra", where, entry, found: { program: name } }));
  }
  return findings;
}

function checkHook(
  where: string,
  direction: "in" | "out",
  wanted: string,
  hook: readonly Attachment[],
  identity: ProgramIdentity,
): Finding[] {
  const at = { check: "programs", where, entry: hookName(direction), wanted: { program: wanted } } as const;
  const ours = hook.filter(({ ours: mine }) => mine);
  const right = ours.find(({ name }) => name === wanted);
  if (right === undefined) {
    const other = ours[0] ?? null;
    if (other === null) return [failure({ ...at, kind: "missing" })];
    return [failure({ ...at, kind: "different", found: { program: other.name } })];
  }
  const findings: Finding[] = [];
  const build = otherBuild(right, wanted, identity);
  if (build !== null) findings.push(failure({ ...at, kind: "other build", ...build }));
  for (const extra of ours.filter((each) => each !== right)) {
    const found = { program: extra.name, mode: extra.mode };
    findings.push(failure({ ...at, kind: "extra", found, wanted: null }));
  }
  const before = hook.filter((each) => !each.ours && runsBefore(each, right));
  if (before.length > 0) {
    const names = before.map(({ mode, name, programId }) => `${mode} ${name || `program ${programId}`}`);
    findings.push(
      failure({
        ...at,
        kind: "order",
        found: { first: names.join(", ") },
        fix: "Its owner must attach it after ours: what it ends the chain for is not translated.",
      }),
    );
  }
  return findings;
}

/** tcx runs before all of clsact. */
function runsBefore(a: Attachment, b: Attachment): boolean {
  if (a.mode !== b.mode) return a.mode === "tcx";
  return a.position < b.position;
}

/** Null: it is the right one, as far as is known. */
function otherBuild(
  { programId, tag }: Pick<Attachment, "programId" | "tag">,
  name: string,
  { ids, tags }: ProgramIdentity,
): Pick<Finding, "found" | "wanted"> | null {
  const wantedTag = tags?.get(name);
  if (wantedTag !== undefined && wantedTag !== tag)
    return { found: { program: name, tag }, wanted: { program: name, tag: wantedTag } };
  if (ids === null || ids.has(programId)) return null;
  return {
    found: { program: name, id: String(programId) },
    wanted: { program: name, id: "one that the agent has loaded" },
  };
}

/** What the socket hooks should be. */
export interface ExpectedSockets {
  readonly mode: SocketLb;
  /** The id of the cgroup; null: any. */
  readonly cgroupId: bigint | null;
}

/** @param expected null: it is not known whether there should be any */
export function checkSockets(
  links: readonly SocketLink[],
  expected: ExpectedSockets | null,
  identity: ProgramIdentity,
): Finding[] {
  const off = expected?.mode === "off";
  // Nobody said what should be: all or nothing.
  if (expected === null && links.length === 0) return [];
  const byHook = new Map(links.map((link) => [link.hook, link]));
  return SOCKET_HOOKS.flatMap((hook) => {
    const link = byHook.get(hook);
    const name = `ptl_${hook}`;
    const at = { check: "sockets", where: "cgroup", entry: hook } as const;
    if (off) {
      return link === undefined ? [] : [failure({ ...at, kind: "extra", found: { program: link.name } })];
    }
    const wanted = { program: name };
    if (link === undefined) return [failure({ ...at, kind: "missing", wanted })];
    if (link.cgroupId === 0n)
      return [failure({ ...at, kind: "missing", found: { link: "detached" }, wanted })];
    if (expected?.cgroupId != null && link.cgroupId !== expected.cgroupId) {
      const found = { cgroup: String(link.cgroupId) };
      return [failure({ ...at, kind: "different", found, wanted: { cgroup: String(expected.cgroupId) } })];
    }
    if (link.name !== name)
      return [failure({ ...at, kind: "different", found: { program: link.name }, wanted })];
    const build = otherBuild(link, name, identity);
    return build === null ? [] : [failure({ ...at, kind: "other build", ...build })];
  });
}
