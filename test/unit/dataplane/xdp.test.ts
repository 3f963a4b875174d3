// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { test } from "node:test";
import { XdpKeeper, type XdpOutcome, type XdpSetting, xdpMode } from "../../../src/dataplane/xdp.js";
import type { KernelMaps, MapWrite } from "../../../src/native/kernel.js";
import type { XdpHookMode, XdpState } from "../../../src/native/xdp.js";
import type { Logger } from "../../../src/util/log.js";

const PROGRAM = 77;
const ETH0 = { ifindex: 2, name: "eth0", kind: "" };

/** A kernel with XDP hooks and the map `xdp_devices`; `said` is what was logged. */
class Fake {
  readonly said: string[] = [];
  readonly done: string[] = [];
  readonly devices = new Map<number, string>();
  readonly states = new Map<number, XdpState>();
  outcome: XdpOutcome | null = null;
  address = Uint8Array.of(2, 0, 0, 0, 0, 1);

  keeper(setting: XdpSetting): XdpKeeper {
    const say =
      (level: string) =>
      (fields: object, message: string): void =>
        void this.said.push(
          `${level} ${message}${"reason" in fields ? `: ${(fields as { reason: string }).reason}` : ""}`,
        );
    const log = { info: say("info"), warn: say("warn") } as unknown as Logger;
    return new XdpKeeper(setting, { hooks: this.#hooks(), maps: this.#maps(), log });
  }

  state(ifindex: number, programId: number, mode: XdpState["mode"], ours = true): XdpState {
    return { ifindex, programId, mode, ours, name: "", tag: "", address: this.address };
  }

  #hooks() {
    return {
      programId: PROGRAM,
      states: async (list: readonly number[]) =>
        list.map((ifindex) => this.states.get(ifindex) ?? this.state(ifindex, 0, null, false)),
      attach: async (ifindex: number, mode: XdpHookMode): Promise<XdpOutcome> => {
        if (this.outcome !== null) return this.outcome;
        this.done.push(`attach ${ifindex} ${mode}`);
        this.states.set(ifindex, this.state(ifindex, PROGRAM, mode));
        return { change: "new", error: null };
      },
      detach: async (list: readonly number[]) => {
        this.done.push(`detach ${list.join()}`);
        for (const ifindex of list) this.states.delete(ifindex);
      },
    };
  }

  #maps(): KernelMaps {
    const apply = async ([write]: readonly MapWrite[]) => {
      const { kind, keys, values } = write as MapWrite;
      const ifindex = keys[0] as number;
      this.done.push(`${kind} ${ifindex}`);
      if (kind === "delete") this.devices.delete(ifindex);
      else this.devices.set(ifindex, Buffer.from(values.subarray(0, 6)).toString("hex"));
      return { failure: null };
    };
    const dump = async () => ({
      count: this.devices.size,
      keys: Uint8Array.from([...this.devices.keys()].flatMap((ifindex) => [ifindex, 0, 0, 0])),
      values: Uint8Array.from(
        [...this.devices.values()].flatMap((text) => [...Buffer.from(`${text}0000`, "hex")]),
      ),
    });
    return { apply, dump } as unknown as KernelMaps;
  }
}

test("xdpMode() of auto is native, never generic, and leaves veths out", () => {
  assert.deepEqual(
    (["auto", "native", "generic", "off"] as const).map((setting) => [
      xdpMode(setting, ""),
      xdpMode(setting, "veth"),
    ]),
    [
      ["native", null],
      ["native", "native"],
      ["generic", "generic"],
      [null, null],
    ],
  );
});

test("XdpKeeper attaches first and then names the interface to the program, and does neither twice", async () => {
  const kernel = new Fake();
  const keeper = kernel.keeper("native");
  await keeper.sync([ETH0], false);
  await keeper.sync([ETH0], false);
  await keeper.sync([ETH0], true);
  assert.deepEqual(kernel.done, ["attach 2 native", "update 2"]);
  assert.deepEqual([...keeper.attached], [[2, "native"]]);
});

test("XdpKeeper replaces the program of an earlier life, and takes it off with --xdp off", async () => {
  const kernel = new Fake();
  kernel.devices.set(2, "020000000001");
  kernel.states.set(2, kernel.state(2, 55, "native"));
  await kernel.keeper("native").sync([ETH0], false);
  assert.deepEqual(kernel.done.splice(0), ["attach 2 native"]);
  await kernel.keeper("off").sync([ETH0], false);
  assert.deepEqual(kernel.done, ["delete 2", "detach 2"]);
});

test("XdpKeeper takes off what an earlier life attached and had not written down", async () => {
  const kernel = new Fake();
  kernel.states.set(2, kernel.state(2, 55, "native"));
  await kernel.keeper("off").sync([ETH0], false);
  assert.deepEqual(kernel.done, ["detach 2"]);
});

test("XdpKeeper takes the program off an interface that is no uplink any more", async () => {
  const kernel = new Fake();
  const keeper = kernel.keeper("native");
  await keeper.sync([ETH0], false);
  await keeper.sync([], false);
  assert.deepEqual(kernel.done.slice(2), ["delete 2", "detach 2"]);
  assert.equal(keeper.attached.size, 0);
});

test("XdpKeeper follows a hardware address that changes", async () => {
  const kernel = new Fake();
  const keeper = kernel.keeper("native");
  await keeper.sync([ETH0], false);
  kernel.address = Uint8Array.of(2, 0, 0, 0, 0, 9);
  kernel.states.set(2, kernel.state(2, PROGRAM, "native"));
  await keeper.sync([ETH0], false);
  assert.equal(kernel.devices.get(2), "020000000009");
});

test("XdpKeeper puts back what somebody has taken off, and says so", async () => {
  const kernel = new Fake();
  const keeper = kernel.keeper("native");
  await keeper.sync([ETH0], false);
  kernel.states.delete(2);
  assert.equal(await keeper.sync([ETH0], true), 1);
  assert.ok(
    kernel.said.includes("warn the XDP program was taken off by someone else"),
    kernel.said.join("\n"),
  );
  assert.equal(kernel.states.get(2)?.programId, PROGRAM);
});

test("XdpKeeper warns once of an interface that takes no program, and tries again", async () => {
  const kernel = new Fake();
  const keeper = kernel.keeper("auto");
  kernel.outcome = { error: "The XDP program theirs (id 5) is at eth0", code: "failed" };
  await keeper.sync([ETH0], false);
  await keeper.sync([ETH0], false);
  const said = "warn no XDP: tc serves the uplink alone: The XDP program theirs (id 5) is at eth0";
  assert.deepEqual(kernel.said, [said]);
  kernel.outcome = null;
  await keeper.sync([ETH0], false);
  assert.deepEqual([...keeper.attached], [[2, "native"]]);
});

test("XdpKeeper takes a driver without XDP as it is with auto, and warns of it with native", async () => {
  for (const [setting, level] of [
    ["auto", "info"],
    ["native", "warn"],
  ] as const) {
    const kernel = new Fake();
    kernel.outcome = { error: "The driver of eth0 has no native XDP", code: "none" };
    await kernel.keeper(setting).sync([ETH0], false);
    assert.ok(kernel.said[0]?.startsWith(level), kernel.said[0]);
  }
});
