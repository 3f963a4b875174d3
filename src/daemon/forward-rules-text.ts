// SPDX-License-Identifier: Apache-2.0
/** The filter table as `iptables-save` prints it, and the changes that make our own chains what they should be. Pure. */

export interface FilterChain {
  /** "ACCEPT" or "DROP" of a built-in chain; null of all others. */
  readonly policy: string | null;
  /** Rules as iptables-save prints them, without "-A CHAIN ". */
  readonly rules: readonly string[];
}

export type FilterTable = ReadonlyMap<string, FilterChain>;

/** A chain of ours, and the built-in chain that jumps to it. */
export interface OwnChain {
  readonly hook: "FORWARD" | "INPUT";
  readonly name: string;
  /** As iptables-save prints them. None: the chain and its jump are removed. */
  readonly rules: readonly string[];
}

export const FORWARD_CHAIN = "PORTOLAN-FORWARD";
export const INPUT_CHAIN = "PORTOLAN-INPUT";

/**
 * 8.11. The first rule accepts what the kernel programs have translated: they set the mark. Replies of backends carry no mark
 * (they are translated back when they leave, after FORWARD), so the second accepts what conntrack knows; it also accepts
 * ICMP errors about those flows.
 *
 * @param markBit 0 to 31
 */
export function forwardChain(markBit: number): OwnChain {
  const mark = `0x${(2 ** markBit).toString(16)}`;
  return {
    hook: "FORWARD",
    name: FORWARD_CHAIN,
    rules: [
      `-m mark --mark ${mark}/${mark} -j ACCEPT`,
      "-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
    ],
  };
}

/** 6.27: health check ports are open to whoever asks. */
export function inputChain(ports: readonly number[]): OwnChain {
  const sorted = [...new Set(ports)].sort((a, b) => a - b);
  return {
    hook: "INPUT",
    name: INPUT_CHAIN,
    rules: sorted.map((port) => `-p tcp -m tcp --dport ${port} -j ACCEPT`),
  };
}

/** The chains of the filter table in the output of `iptables-save -t filter`. Lines that are something else are skipped. */
export function parseFilterTable(text: string): FilterTable {
  const chains = new Map<string, { policy: string | null; rules: string[] }>();
  for (const line of text.split("\n")) {
    const declared = /^:(\S+) (\S+)/.exec(line);
    if (declared !== null) {
      const [, name = "", policy = "-"] = declared;
      chains.set(name, { policy: policy === "-" ? null : policy, rules: [] });
      continue;
    }
    const rule = /^(?:\[\d+:\d+\] )?-A (\S+) (.*)$/.exec(line);
    if (rule !== null) chains.get(rule[1] ?? "")?.rules.push((rule[2] ?? "").trimEnd());
  }
  return chains;
}

/** How many rules of the built-in chain are not ours. */
export function otherRules(table: FilterTable, { hook, name }: OwnChain): number {
  const rules = table.get(hook)?.rules ?? [];
  return rules.filter((rule) => rule !== `-j ${name}`).length;
}

/**
 * Whether anything in the built-in chain could stop a packet of ours: a policy that is not ACCEPT, or any rule at all. A chain
 * that has neither accepts everything already, and a rule with conntrack in it would make the kernel track every packet for
 * nothing.
 */
export function isNeeded(table: FilterTable, chain: OwnChain): boolean {
  if (chain.rules.length === 0) return false;
  return (table.get(chain.hook)?.policy ?? "ACCEPT") !== "ACCEPT" || otherRules(table, chain) > 0;
}

/** The chain is there with these rules, and jumped to. */
export function isInPlace(table: FilterTable, chain: OwnChain): boolean {
  const { hook, name } = chain;
  return hasRules(table, chain) && (table.get(hook)?.rules.includes(`-j ${name}`) ?? false);
}

function hasRules(table: FilterTable, { name, rules }: OwnChain): boolean {
  const found = table.get(name)?.rules;
  return found?.length === rules.length && found.every((rule, i) => rule === rules[i]);
}

/**
 * Lines for `iptables-restore --noflush`; none when everything is as it should be. All of one table come into force at once.
 * The jump goes to the top of the built-in chain when it is missing and is never moved afterwards: whoever puts rules before
 * it later, as network policy engines do, means to be asked first.
 */
export function changesFor(table: FilterTable, chains: readonly OwnChain[]): readonly string[] {
  const declared: string[] = [];
  const rules: string[] = [];
  for (const chain of chains) {
    const { hook, name } = chain;
    const jumps = (table.get(hook)?.rules ?? []).filter((rule) => rule === `-j ${name}`).length;
    if (isNeeded(table, chain)) {
      if (!hasRules(table, chain)) {
        declared.push(`:${name} - [0:0]`); // Empties it, too.
        rules.push(...chain.rules.map((rule) => `-A ${name} ${rule}`));
      }
      if (jumps === 0) rules.push(`-I ${hook} 1 -j ${name}`);
    } else {
      for (let i = 0; i < jumps; i += 1) rules.push(`-D ${hook} -j ${name}`);
      if (table.has(name)) rules.push(`-F ${name}`, `-X ${name}`);
    }
  }
  return [...declared, ...rules];
}
