// SPDX-License-Identifier: Apache-2.0
/**
 * The only netfilter rules that are ours: what is translated passes FORWARD whatever the host's firewall makes of forwarded
 * packets (8.11), and health check ports pass INPUT (6.27).
 *
 * An ACCEPT in another table or base chain would not help: each base chain decides for itself, and one DROP is enough. So the
 * rules are in chains of ours that iptables' own FORWARD and INPUT jump to, in each backend (legacy, nft) and family that has
 * a filter table. Where such a chain has the policy ACCEPT and no rule, nothing is put in, since nothing is in the way;
 * kube-proxy always puts its rules in. A firewall may come, or be loaded anew, at any time: `ensure` is to be called with
 * each audit.
 */
import type { Family } from "../net/ip.js";
import { Lane } from "../util/lane.js";
import type { Logger } from "../util/log.js";
import {
  changesFor,
  type FilterTable,
  FORWARD_CHAIN,
  forwardChain,
  INPUT_CHAIN,
  inputChain,
  isInPlace,
  isNeeded,
  type OwnChain,
  otherRules,
  parseFilterTable,
} from "./forward-rules-text.js";
import {
  applyTable,
  type Backend,
  hostTools,
  type RuleTools,
  readTable,
  rememberingVersions,
} from "./forward-rules-tools.js";

export interface RuleFailure {
  /** `tool_missing`: iptables of this backend is not installed. `read_failed`, `write_failed`: it is, and reports an error. */
  readonly code: "tool_missing" | "read_failed" | "write_failed";
  readonly backend: Backend;
  readonly family: Family;
  readonly message: string;
}

/** What one look at all backends and families came to. */
export interface RulesResult {
  /** Filter tables that were changed. */
  readonly changed: number;
  readonly failures: readonly RuleFailure[];
}

export interface ForwardRulesOptions {
  /** 0 to 31; the kernel programs' --forward-mark-bit. @default 13 */
  readonly markBit?: number;
  readonly log: Logger;
  readonly tools?: RuleTools;
}

const DEFAULT_MARK_BIT = 13;
const PLACES: readonly { readonly backend: Backend; readonly family: Family }[] = [
  { backend: "nft", family: 4 },
  { backend: "nft", family: 6 },
  { backend: "legacy", family: 4 },
  { backend: "legacy", family: 6 },
];

export class ForwardRules {
  readonly #markBit: number;
  readonly #log: Logger;
  readonly #tools: RuleTools;
  readonly #lane = new Lane(() => this.#apply());
  /** null: nobody has said yet, so what a predecessor left stays. */
  #forward: OwnChain | null = null;
  #input: OwnChain | null = null;
  /** Failures that have been logged and last. */
  #logged: ReadonlySet<string> = new Set();

  /** @throws RangeError when the bit is none of a mark's 32 */
  constructor({ markBit, log, tools }: ForwardRulesOptions) {
    this.#markBit = markBit ?? DEFAULT_MARK_BIT;
    if (!Number.isInteger(this.#markBit) || this.#markBit < 0 || this.#markBit > 31)
      throw new RangeError(`a mark has the bits 0 to 31, not ${markBit}`);
    this.#log = log;
    this.#tools = rememberingVersions(tools ?? hostTools);
  }

  /** Makes translated flows pass FORWARD, now and with each later call. Never rejects; failures are logged once. */
  ensure(): Promise<RulesResult> {
    this.#forward = forwardChain(this.#markBit);
    return this.#lane.request();
  }

  /** Makes these TCP ports of the node pass INPUT, and those that were given before and are not any more no longer. */
  ensureInputAccept(ports: readonly number[]): Promise<RulesResult> {
    this.#input = inputChain(ports);
    return this.#lane.request();
  }

  /** Removes every rule and chain of ours, from wherever it is. Never rejects. */
  remove(): Promise<RulesResult> {
    this.#forward = { hook: "FORWARD", name: FORWARD_CHAIN, rules: [] };
    this.#input = { hook: "INPUT", name: INPUT_CHAIN, rules: [] };
    return this.#lane.request();
  }

  async #apply(): Promise<RulesResult> {
    const chains = [this.#forward, this.#input].filter((chain) => chain !== null);
    let changed = 0;
    const failures: RuleFailure[] = [];
    // One after the other: they share iptables' lock.
    for (const { backend, family } of PLACES) {
      const result = await this.#applyTo(backend, family, chains);
      if (result === "changed") changed += 1;
      else if (result !== "same") failures.push(result);
    }
    this.#logNew(failures);
    return { changed, failures };
  }

  async #applyTo(
    backend: Backend,
    family: Family,
    chains: readonly OwnChain[],
  ): Promise<RuleFailure | "changed" | "same"> {
    const found = await readTable(this.#tools, backend, family, "filter");
    if (found.state === "unused") return "same";
    if (found.state === "unknown") {
      const code = found.code === "tool_missing" ? "tool_missing" : "read_failed";
      return { code, backend, family, message: found.reason };
    }
    const lines = changesFor(parseFilterTable(found.text), chains);
    if (lines.length === 0) return "same";
    const reason = await applyTable(this.#tools, found.program, "filter", lines);
    if (reason !== null) return { code: "write_failed", backend, family, message: reason };
    this.#log.info({ backend, family, lines: lines.length }, "firewall rules changed");
    return "changed";
  }

  /** Without iptables there is hardly a policy to be known: that is no warning. */
  #logNew(failures: readonly RuleFailure[]): void {
    const texts = new Set(failures.map(failureText));
    for (const failure of failures) {
      if (this.#logged.has(failureText(failure))) continue;
      const { code, backend, family, message } = failure;
      const fields = { code, backend, family, reason: message };
      if (code === "tool_missing" && backend === "nft")
        this.#log.info(fields, "policy of FORWARD unknown, no rules are put in");
      else this.#log.warn(fields, "firewall rules cannot be ensured, forwarded flows may be dropped");
    }
    this.#logged = texts;
  }
}

const failureText = ({ code, backend, family, message }: RuleFailure): string =>
  `${code} ${backend} ${family} ${message}`;

/** What a firewall does to forwarded packets, for `portolan doctor`. */
export type ForwardPolicy =
  /** The backend has no filter table for this family: it drops nothing. */
  | { readonly state: "unused"; readonly backend: Backend; readonly family: Family }
  | { readonly state: "unknown"; readonly backend: Backend; readonly family: Family; readonly reason: string }
  | {
      readonly state: "known";
      readonly backend: Backend;
      readonly family: Family;
      readonly policy: "ACCEPT" | "DROP";
      /** Rules of FORWARD that are not ours. */
      readonly otherRules: number;
      /** Without our rules translated flows may be dropped. */
      readonly needed: boolean;
      readonly inPlace: boolean;
    };

/**
 * Reads, for each backend and family, what FORWARD does and whether our rules are there. Changes nothing, never rejects.
 *
 * @param markBit the bit that the rules are expected to match
 */
export function readForwardPolicy(
  markBit: number = DEFAULT_MARK_BIT,
  tools: RuleTools = hostTools,
): Promise<readonly ForwardPolicy[]> {
  const chain = forwardChain(markBit);
  return Promise.all(
    PLACES.map(async ({ backend, family }): Promise<ForwardPolicy> => {
      const found = await readTable(tools, backend, family, "filter");
      if (found.state === "unused") return { state: "unused", backend, family };
      if (found.state === "unknown") return { state: "unknown", backend, family, reason: found.reason };
      return policyOf(parseFilterTable(found.text), chain, backend, family);
    }),
  );
}

function policyOf(table: FilterTable, chain: OwnChain, backend: Backend, family: Family): ForwardPolicy {
  return {
    state: "known",
    backend,
    family,
    policy: table.get(chain.hook)?.policy === "DROP" ? "DROP" : "ACCEPT",
    otherRules: otherRules(table, chain),
    needed: isNeeded(table, chain),
    inPlace: isInPlace(table, chain),
  };
}
