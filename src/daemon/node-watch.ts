// SPDX-License-Identifier: Apache-2.0
/** This node's Node object: who waits for it at start (1.8), and which of its changes end the agent (1.16). */
import type { NodeInfo, Snapshot } from "../model/types.js";
import type { IpAddress } from "../net/ip.js";
import type { NodeState } from "../source/kube/kube-source.js";
import { AppError } from "../util/errors.js";
import type { Logger } from "../util/log.js";
import { systemTimers, type Timers } from "../util/timers.js";

/** KubeSource is one. */
export interface WatchedNode {
  readonly node: NodeState;
  /** Calls back with each change. Returns how to stop. */
  onNode(listener: (state: NodeState) => void): () => void;
}

export type NodeErrorCode =
  /** 1.8: no Node, or none that can be used, within the time allowed. */
  | "E_NODE_MISSING"
  | "E_NODE_WITHOUT_ADDRESS"
  | "E_NODE_WITHOUT_POD_CIDR"
  /** 1.16: the supervisor starts the agent again, which then waits as any new one. */
  | "E_NODE_DELETED"
  | "E_NODE_ADDRESSES_CHANGED"
  | "E_NODE_POD_CIDRS_CHANGED";

/** How long the Node may take to be there (1.8). */
export const NODE_TIMEOUT_MS: number = 5 * 60_000;

export interface NodeGateOptions {
  /** Detector NodeCIDR: the Node must have podCIDRs, too. */
  readonly needsPodCidrs: boolean;
  /** The API server's last error, for the message; null: none. */
  readonly lastError: () => string | null;
  readonly log: Logger;
  readonly timers?: Timers;
  readonly timeoutMs?: number;
}

/** 13.1: the primary address, and the first of the other family. */
export function nodeIps({ addresses }: Pick<NodeInfo, "addresses">): readonly IpAddress[] {
  const [primary] = addresses;
  if (primary === undefined) return [];
  const secondary = addresses.find(({ family }) => family !== primary.family);
  return secondary === undefined ? [primary] : [primary, secondary];
}

const texts = (list: readonly { readonly text: string }[]): string => list.map(({ text }) => text).join(", ");

/** What the Node lacks; null: nothing. */
function missing({ exists, info }: NodeState, needsPodCidrs: boolean): NodeErrorCode | null {
  if (!exists) return "E_NODE_MISSING";
  if (info.addresses.length === 0) return "E_NODE_WITHOUT_ADDRESS";
  return needsPodCidrs && info.podCIDRs.length === 0 ? "E_NODE_WITHOUT_POD_CIDR" : null;
}

const WORDS: Readonly<Record<string, string>> = {
  E_NODE_MISSING: "does not exist, or the API server does not tell",
  E_NODE_WITHOUT_ADDRESS: "has no InternalIP and no ExternalIP",
  E_NODE_WITHOUT_POD_CIDR: "has no spec.podCIDRs, which --detect-local-mode NodeCIDR needs",
};

/**
 * Resolves when the Node exists and has all that is needed of it (1.8). Events of the watch tell; nobody polls.
 *
 * @throws AppError<NodeErrorCode> after the time allowed, with the API server's last error; what the signal was aborted with
 */
export function waitForNode(
  source: WatchedNode,
  options: NodeGateOptions,
  signal: AbortSignal,
): Promise<NodeInfo> {
  const { needsPodCidrs, log, timers = systemTimers, timeoutMs = NODE_TIMEOUT_MS } = options;
  const { name } = source.node.info;
  let told: NodeErrorCode | null = null;
  return new Promise((resolve, reject) => {
    const finish = (settle: () => void): void => {
      stop();
      cancel();
      signal.removeEventListener("abort", onAbort);
      settle();
    };
    const onAbort = (): void => finish(() => reject(signal.reason));
    const look = (state: NodeState): void => {
      const lacks = missing(state, needsPodCidrs);
      if (lacks === null) {
        finish(() => resolve(state.info));
        return;
      }
      if (lacks !== told && lacks !== "E_NODE_MISSING")
        log.warn({ code: lacks, node: name }, "the Node cannot be used yet, waiting");
      told = lacks;
    };
    const stop = source.onNode(look);
    const cancel = timers.after(timeoutMs, () => {
      finish(() => reject(gateError(source.node, options, timeoutMs)));
    });
    signal.addEventListener("abort", onAbort, { once: true });
    if (signal.aborted) onAbort();
    else look(source.node);
  });
}

function gateError(
  state: NodeState,
  { needsPodCidrs, lastError }: NodeGateOptions,
  timeoutMs: number,
): AppError<NodeErrorCode> {
  const code = missing(state, needsPodCidrs) ?? "E_NODE_MISSING";
  const last = lastError();
  const { name: node } = state.info;
  const why = code === "E_NODE_MISSING" && last !== null ? `; the last error: ${last}` : "";
  return new AppError<NodeErrorCode>(
    code,
    `Node ${node} ${WORDS[code]}: given up after ${Math.round(timeoutMs / 1000)} s${why}`,
    {
      fields: { node, lastError: last },
      hint: "The name must be that of the Node object: --hostname-override sets it.",
    },
  );
}

export interface NodeWatchOptions {
  /** As the agent started with it. */
  readonly started: NodeInfo;
  /** Detector NodeCIDR: the programs know the Node's podCIDRs since they were loaded. */
  readonly podCidrsMatter: boolean;
  readonly log: Logger;
  /** Called once. The dataplane stays as it is. */
  readonly onEnd: (reason: AppError<NodeErrorCode>) => void;
}

/** Ends the agent when its Node is not the one any more that it started with (1.16). */
export class NodeWatch {
  readonly #options: NodeWatchOptions;
  #ended = false;
  #toldOfNone = false;

  constructor(options: NodeWatchOptions) {
    this.#options = options;
  }

  /** The Node as it is now. */
  look(state: NodeState): void {
    if (this.#ended) return;
    const { started, podCidrsMatter, log } = this.#options;
    const { info } = state;
    if (state.deleted) this.#end("E_NODE_DELETED", `Node ${started.name} was deleted`);
    if (!state.exists) return;
    const [before, now] = [texts(nodeIps(started)), texts(nodeIps(info))];
    if (now === "") {
      if (!this.#toldOfNone)
        log.warn(
          { code: "node_without_address", node: started.name, before },
          "the Node has no address any more, going on",
        );
      this.#toldOfNone = true;
    } else {
      this.#toldOfNone = false;
      if (now !== before)
        this.#end(
          "E_NODE_ADDRESSES_CHANGED",
          `the addresses of Node ${started.name} were ${before} and are ${now} now`,
        );
    }
    const [ranges, newRanges] = [texts(started.podCIDRs), texts(info.podCIDRs)];
    if (podCidrsMatter && ranges !== newRanges)
      this.#end(
        "E_NODE_POD_CIDRS_CHANGED",
        `spec.podCIDRs of Node ${started.name} were ${ranges} and are ${newRanges || "none"} now`,
      );
  }

  #end(code: NodeErrorCode, message: string): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#options.onEnd(
      new AppError<NodeErrorCode>(code, message, { fields: { node: this.#options.started.name } }),
    );
  }
}

/**
 * The Node that a compile sees: bindAddress goes before the Node's own primary address (13.2), and addresses that have gone
 * from the Node's status for a while are still its (1.16). The same object as long as nothing changes.
 */
export class CompiledNode {
  readonly #bindAddress: IpAddress | null;
  #addresses: readonly IpAddress[] = [];
  #given: NodeInfo | null = null;
  #made: NodeInfo | null = null;

  /** `bindAddress`: null when it is a wildcard. */
  constructor(bindAddress: IpAddress | null) {
    this.#bindAddress = bindAddress;
  }

  in(snapshot: Snapshot): Snapshot {
    const node = this.#of(snapshot.node);
    return node === snapshot.node ? snapshot : Object.freeze({ ...snapshot, node });
  }

  #of(node: NodeInfo): NodeInfo {
    if (this.#made !== null && this.#given === node) return this.#made;
    if (node.addresses.length > 0) this.#addresses = node.addresses;
    const bind = this.#bindAddress;
    const own = this.#addresses;
    const addresses =
      bind === null ? own : Object.freeze([bind, ...own.filter(({ text }) => text !== bind.text)]);
    this.#given = node;
    this.#made = addresses === node.addresses ? node : Object.freeze({ ...node, addresses });
    return this.#made;
  }
}
