// SPDX-License-Identifier: Apache-2.0
/**
 * Keeps the XDP program on the uplinks that should carry it, and the map `xdp_devices` in step: the program serves and sends on an
 * interface that is in there. Level-triggered, as attach.ts, whose interfaces these are: tc serves whatever XDP does not, so
 * nothing that goes wrong here is more than a warning.
 */
import { viewOf } from "../abi/codec.js";
import { xdpDeviceCodec } from "../abi/layout.gen.js";
import { packIndexes } from "../native/hooks.js";
import type { KernelMaps, KernelReads } from "../native/kernel.js";
import type { XdpHookMode, XdpState } from "../native/xdp.js";
import { AppError } from "../util/errors.js";
import type { Logger } from "../util/log.js";

/** --xdp. `auto`: native where the driver has it, else off; never generic. */
export type XdpSetting = "native" | "generic" | "off" | "auto";

/** An uplink that carries the tc programs. */
export interface Uplink {
  readonly ifindex: number;
  readonly name: string;
  /** IFLA_INFO_KIND. */
  readonly kind: string;
}

/** How it went for one interface. `none`: the driver has no XDP of this mode. */
export type XdpOutcome =
  | { readonly change: "new" | "replaced"; readonly error: null }
  | { readonly error: string; readonly code: "gone" | "none" | "failed" };

/** What the keeper needs of the kernel. */
export interface XdpHooks {
  /** In the order of the interfaces. */
  states(ifindexes: readonly number[]): Promise<readonly XdpState[]>;
  attach(ifindex: number, mode: XdpHookMode): Promise<XdpOutcome>;
  /** Takes ours off. Nothing there is no error. */
  detach(ifindexes: readonly number[]): Promise<void>;
  /** The id of the program that `attach` puts there; null: it is not loaded. */
  readonly programId: number | null;
}

export interface XdpDependencies {
  readonly hooks: XdpHooks;
  readonly maps: KernelMaps;
  readonly log: Logger;
}

/** A veth's other end drops what XDP sends unless it takes part itself, which cannot be seen from here. */
const UNSURE_KINDS: ReadonlySet<string> = new Set(["veth"]);

/** The mode in which an uplink is to carry the program; null: it is not. */
export function xdpMode(setting: XdpSetting, kind: string): XdpHookMode | null {
  if (setting === "off") return null;
  if (setting === "auto") return UNSURE_KINDS.has(kind) ? null : "native";
  return setting;
}

function writeFailed(kind: string, errno: number): AppError<"E_XDP_MAP"> {
  return new AppError("E_XDP_MAP", `the kernel refused a write to the map xdp_devices (errno ${errno})`, {
    fields: { errno, kind },
  });
}

/** What `xdp_devices` holds: hardware addresses as hexadecimal text, by ifindex. */
export async function readXdpDevices(maps: Pick<KernelReads, "dump">): Promise<Map<number, string>> {
  const { count, keys, values } = await maps.dump("xdp_devices");
  const view = viewOf(keys);
  return new Map(
    Array.from({ length: count }, (_, i) => {
      const { address } = xdpDeviceCodec.decode(values, i * xdpDeviceCodec.size);
      return [view.getUint32(4 * i, true), Buffer.from(address).toString("hex")];
    }),
  );
}

export class XdpKeeper {
  readonly #setting: XdpSetting;
  readonly #hooks: XdpHooks;
  readonly #maps: KernelMaps;
  readonly #log: Logger;
  /** Uplinks that carry the program of this life. */
  readonly #attached = new Map<number, { readonly name: string; readonly mode: XdpHookMode }>();
  /** What `xdp_devices` holds: addresses as text, by ifindex; null until it was read. */
  #devices: Map<number, string> | null = null;
  /** What was said about an uplink, so that it is said once. */
  readonly #said = new Map<number, string>();

  constructor(setting: XdpSetting, { hooks, maps, log }: XdpDependencies) {
    this.#setting = setting;
    this.#hooks = hooks;
    this.#maps = maps;
    this.#log = log;
  }

  /** How each uplink that carries the program carries it, by ifindex. */
  get attached(): ReadonlyMap<number, XdpHookMode> {
    return new Map(Array.from(this.#attached, ([ifindex, { mode }]) => [ifindex, mode]));
  }

  /**
   * Attaches what is new, and takes off what is not to be there. One uplink that fails stops no other.
   *
   * @param uplinks those that carry the tc programs now
   * @param audit also put back what somebody else has taken off
   * @returns on how many uplinks the program was put back
   */
  async sync(uplinks: readonly Uplink[], audit: boolean): Promise<number> {
    const first = this.#devices === null;
    if (this.#setting === "off" && !first && !audit) return 0;
    if (first || audit) this.#devices = await readXdpDevices(this.#maps);
    const devices = this.#devices as Map<number, string>;
    const wanted = new Map(
      uplinks.flatMap((uplink) => {
        const mode = xdpMode(this.#setting, uplink.kind);
        return mode === null ? [] : [[uplink.ifindex, { ...uplink, mode }] as const];
      }),
    );
    const states = await this.#hooks.states(uplinks.map(({ ifindex }) => ifindex));
    const stray = states.filter(({ ifindex, ours }) => ours && !wanted.has(ifindex));
    const gone = [...devices.keys(), ...this.#attached.keys()].filter((ifindex) => !wanted.has(ifindex));
    await this.#takeOff([...new Set([...gone, ...stray.map(({ ifindex }) => ifindex)])], devices);
    let putBack = 0;
    for (const state of states) {
      const uplink = wanted.get(state.ifindex);
      if (uplink !== undefined && (await this.#keep(uplink, state, devices))) putBack += 1;
    }
    return putBack;
  }

  /** Whether it was put back. */
  async #keep(
    { ifindex, name, mode }: Uplink & { readonly mode: XdpHookMode },
    state: XdpState,
    devices: Map<number, string>,
  ): Promise<boolean> {
    const before = this.#attached.get(ifindex);
    const isThere = state.programId === this.#hooks.programId && state.mode === mode;
    if (before === undefined || !isThere) {
      const outcome = await this.#hooks.attach(ifindex, mode);
      if (outcome.error !== null) {
        this.#attached.delete(ifindex);
        await this.#forget([ifindex], devices);
        if (outcome.code !== "gone") this.#complain(ifindex, name, outcome);
        return false;
      }
      if (before !== undefined)
        this.#log.warn({ iface: name, ifindex }, "the XDP program was taken off by someone else");
      this.#attached.set(ifindex, { name, mode });
      this.#said.delete(ifindex);
      this.#log.info({ iface: name, ifindex, xdp: mode, change: outcome.change }, "XDP attached");
    }
    await this.#remember(ifindex, state.address, devices);
    return before !== undefined && !isThere;
  }

  /** The map's entry goes first: what is under way is then tc's. */
  async #takeOff(ifindexes: readonly number[], devices: Map<number, string>): Promise<void> {
    if (ifindexes.length === 0) return;
    await this.#forget(ifindexes, devices);
    await this.#hooks.detach(ifindexes);
    for (const ifindex of ifindexes) {
      const before = this.#attached.get(ifindex);
      this.#attached.delete(ifindex);
      this.#said.delete(ifindex);
      this.#log.info({ iface: before?.name, ifindex }, "XDP detached");
    }
  }

  async #remember(ifindex: number, address: Uint8Array, devices: Map<number, string>): Promise<void> {
    const text = Buffer.from(address).toString("hex");
    if (devices.get(ifindex) === text) return;
    const values = xdpDeviceCodec.encode({ address });
    await this.#write("update", [ifindex], values);
    devices.set(ifindex, text);
  }

  async #forget(ifindexes: readonly number[], devices: Map<number, string>): Promise<void> {
    const known = ifindexes.filter((ifindex) => devices.has(ifindex));
    if (known.length === 0) return;
    await this.#write("delete", known, new Uint8Array());
    for (const ifindex of known) devices.delete(ifindex);
  }

  async #write(kind: "update" | "delete", ifindexes: readonly number[], values: Uint8Array): Promise<void> {
    const keys = packIndexes(ifindexes);
    const write = { map: "xdp_devices", kind, count: ifindexes.length, keys, values } as const;
    const { failure } = await this.#maps.apply([write]);
    if (failure === null) return;
    this.#devices = null; // read back the next time
    throw writeFailed(kind, failure.errno);
  }

  /** `auto` takes a driver without XDP as it is. */
  #complain(ifindex: number, iface: string, { error, code }: { error: string; code: string }): void {
    if (this.#said.get(ifindex) === error) return;
    this.#said.set(ifindex, error);
    if (this.#setting === "auto" && code === "none") {
      this.#log.info({ iface, ifindex, reason: error }, "no XDP: tc serves the uplink alone");
      return;
    }
    this.#log.warn(
      { iface, ifindex, code: "xdp_failed", reason: error },
      "no XDP: tc serves the uplink alone",
    );
  }
}
