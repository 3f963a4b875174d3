// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { Role } from "../../src/abi/enums.gen.js";
import type { Attachment, AttachResult, HookMode } from "../../src/native/hooks.js";
import { NativeLibrary } from "../../src/native/lib.js";
import type { LoadedObject } from "../../src/native/object.js";
import { compileHelper } from "./support/compile.js";
import { addVeth, end, freshPins, ip, isolated, openFiles, scratch, tc } from "./support/isolate.js";

const SMALL = { nat4: 1024, nat6: 1024, slots4: 1024, slots6: 1024, addresses4: 1024, addresses6: 1024 };
/** Arguments of somebody else's filter: a classic BPF program of one instruction, which matches nothing. */
const CLASSIC = ["bytecode", "1,6 0 0 0,", "flowid", "1:1"];

isolated(import.meta.url, () => {
  const library = new NativeLibrary();
  const tcx = library.probe().find((feature) => feature.name === "tcx")?.available === true;
  const skip = tcx ? false : "this kernel has no tcx (Linux 6.6)";
  const children: ChildProcess[] = [];
  let neighbourProgram: string;
  let pins: string;
  let loaded: LoadedObject;
  let counter = 0;

  before(async () => {
    neighbourProgram = compileHelper(scratch(), "neighbour.c");
    pins = freshPins(library);
    loaded = await library.open({ pins, maxEntries: SMALL });
  });
  after(async () => {
    for (const child of children) await end(child);
    await loaded.close();
    library.cleanup(pins);
  });

  const freshVeth = (): number => addVeth(`v${++counter}`);

  async function attach(ifindex: number, mode: HookMode, role: number = Role.POD): Promise<AttachResult> {
    const [result] = await loaded.attach([{ ifindex, role, mode }]);
    assert.ok(result);
    return result;
  }

  /** "in tcx 0 ptl_pod_in" … */
  async function hooks(ifindex: number): Promise<string[]> {
    const found = await library.attachments([ifindex]);
    return found.map(({ direction, mode, position, name }) => `${direction} ${mode} ${position} ${name}`);
  }

  async function ours(ifindex: number): Promise<Attachment[]> {
    return (await library.attachments([ifindex])).filter((entry) => entry.ours);
  }

  const qdiscs = (name: string): string => tc("qdisc", "show", "dev", name);

  async function neighbour(
    ifindex: number,
    direction: "in" | "out",
    where: "first" | "last",
  ): Promise<ChildProcess> {
    const child = spawn(neighbourProgram, [`${ifindex}`, direction, where], {
      stdio: ["pipe", "pipe", "inherit"],
    });
    children.push(child);
    await once(child.stdout, "data");
    return child;
  }

  test("Attaching with tcx puts our programs first, before one that was there already", {
    skip,
  }, async () => {
    const ifindex = freshVeth();
    await neighbour(ifindex, "in", "last");
    const result = await attach(ifindex, "tcx");
    assert.deepEqual(result, { ifindex, ok: true, mode: "tcx", change: "new" });
    assert.deepEqual(await hooks(ifindex), [
      "in tcx 0 ptl_pod_in",
      "in tcx 1 neighbour",
      "out tcx 0 ptl_pod_out",
    ]);
    const [entry] = await ours(ifindex);
    assert.ok(entry && entry.linkId > 0 && entry.programId > 0 && /^[0-9a-f]{16}$/.test(entry.tag));
  });

  test("A second life replaces the program in the same link, at the same place among others", {
    skip,
  }, async () => {
    const ifindex = freshVeth();
    await attach(ifindex, "tcx", Role.UPLINK);
    await neighbour(ifindex, "in", "first");
    await neighbour(ifindex, "in", "last");
    const order = [
      "in tcx 0 neighbour",
      "in tcx 1 ptl_net_in",
      "in tcx 2 neighbour",
      "out tcx 0 ptl_net_out",
    ];
    assert.deepEqual(await hooks(ifindex), order);
    const first = await ours(ifindex);
    const again = await library.open({ pins, maxEntries: SMALL });
    const [result] = await again.attach([{ ifindex, role: Role.UPLINK, mode: "auto" }]);
    await again.close();
    assert.deepEqual(result, { ifindex, ok: true, mode: "tcx", change: "replaced" });
    assert.deepEqual(await hooks(ifindex), order);
    const second = await ours(ifindex);
    assert.deepEqual(
      second.map((entry) => entry.linkId),
      first.map((entry) => entry.linkId),
    );
    for (const [i, entry] of second.entries()) assert.notEqual(entry.programId, first[i]?.programId);
  });

  test("Attaching with clsact makes the qdisc, runs before others' later filters and is replaced in place", async () => {
    const ifindex = freshVeth();
    const name = `v${counter}`;
    assert.deepEqual(await attach(ifindex, "clsact"), { ifindex, ok: true, mode: "clsact", change: "new" });
    tc("filter", "add", "dev", name, "ingress", "pref", "20", "bpf", ...CLASSIC);
    assert.deepEqual(await hooks(ifindex), [
      "in clsact 0 ptl_pod_in",
      "in clsact 1 bpf",
      "out clsact 0 ptl_pod_out",
    ]);
    const first = await ours(ifindex);
    const again = await library.open({ pins, maxEntries: SMALL });
    const [result] = await again.attach([{ ifindex, role: Role.POD, mode: "clsact" }]);
    await again.close();
    assert.deepEqual(result, { ifindex, ok: true, mode: "clsact", change: "replaced" });
    const second = await ours(ifindex);
    assert.equal(second.length, 2);
    assert.deepEqual(
      second.map((entry) => entry.priority),
      first.map((entry) => entry.priority),
    );
    for (const [i, entry] of second.entries()) assert.notEqual(entry.programId, first[i]?.programId);
    assert.equal(await library.detach(pins, [ifindex]), 2);
    assert.deepEqual(await hooks(ifindex), ["in clsact 0 bpf"]);
    assert.match(qdiscs(name), /clsact/, "somebody else's filter keeps the qdisc");
  });

  test("Detaching removes the clsact qdisc when it is ours and empty, and keeps one that was there before", async () => {
    const mine = freshVeth();
    const mineName = `v${counter}`;
    await attach(mine, "clsact");
    assert.match(qdiscs(mineName), /clsact/);
    assert.equal(await library.detach(pins, [mine]), 2);
    assert.doesNotMatch(qdiscs(mineName), /clsact/);
    const theirs = freshVeth();
    const theirName = `v${counter}`;
    tc("qdisc", "add", "dev", theirName, "clsact");
    await attach(theirs, "clsact");
    assert.equal(await library.detach(pins, [theirs]), 2);
    assert.match(qdiscs(theirName), /clsact/);
    assert.deepEqual(await hooks(theirs), []);
    assert.equal(
      await library.detach(pins, [theirs, 99_999]),
      0,
      "nothing there, and no such interface: no error",
    );
  });

  test("An ingress qdisc in the way of clsact is an error of its own, and no obstacle for tcx", async () => {
    const ifindex = freshVeth();
    const name = `v${counter}`;
    tc("qdisc", "add", "dev", name, "ingress");
    const result = await attach(ifindex, "clsact");
    assert.ok(!result.ok);
    assert.equal(result.error.code, "E_NATIVE_INGRESS_QDISC");
    assert.match(result.error.hint ?? "", /tc qdisc del dev NAME ingress/);
    assert.match(qdiscs(name), /ingress/, "it is somebody's: it stays");
    if (tcx)
      assert.deepEqual(await attach(ifindex, "tcx"), { ifindex, ok: true, mode: "tcx", change: "new" });
    await library.detach(pins, [ifindex]);
    tc("qdisc", "del", "dev", name, "ingress");
    assert.equal((await attach(ifindex, "clsact")).ok, true);
    await library.detach(pins, [ifindex]);
  });

  test("A filter of somebody else with our preference and handle is not replaced", async () => {
    const ifindex = freshVeth();
    const name = `v${counter}`;
    tc("qdisc", "add", "dev", name, "clsact");
    tc("filter", "add", "dev", name, "ingress", "pref", "10", "handle", "0x50544c", "bpf", ...CLASSIC);
    const result = await attach(ifindex, "clsact");
    assert.ok(!result.ok);
    assert.equal(result.error.code, "E_NATIVE_FOREIGN_FILTER");
    assert.deepEqual(await hooks(ifindex), ["in clsact 0 bpf"], "the other direction was not left alone");
    assert.ok(!readdirSync(join(pins, "links")).some((name) => name.startsWith(`${ifindex}-`)));
    await library.detach(pins, [ifindex]);
    assert.deepEqual(await hooks(ifindex), ["in clsact 0 bpf"]);
  });

  test("Changing the mode leaves one program of ours per direction, in the mode asked for last", {
    skip,
  }, async () => {
    const ifindex = freshVeth();
    for (const mode of ["tcx", "clsact", "tcx", "clsact", "auto"] as const) {
      const result = await attach(ifindex, mode);
      assert.ok(result.ok);
      const entries = await ours(ifindex);
      assert.deepEqual(entries.map((entry) => entry.direction).sort(), ["in", "out"]);
      assert.ok(
        entries.every((entry) => entry.mode === (mode === "clsact" ? "clsact" : "tcx")),
        mode,
      );
    }
    assert.doesNotMatch(qdiscs(`v${counter}`), /clsact/);
    assert.equal(await library.detach(pins, [ifindex]), 2);
    assert.deepEqual(await hooks(ifindex), []);
  });

  test("One interface that is not there does not stop the others", async () => {
    const indexes = [freshVeth(), 99_999, ...Array.from({ length: 6 }, freshVeth)];
    const results = await loaded.attach(
      indexes.map((ifindex) => ({ ifindex, role: Role.POD, mode: "auto" })),
    );
    assert.deepEqual(
      results.map((result) => result.ok),
      indexes.map((ifindex) => ifindex !== 99_999),
    );
    const missing = results[1];
    assert.ok(missing && !missing.ok);
    assert.equal(missing.error.code, "E_NATIVE_NO_DEVICE");
    assert.equal(missing.error.object, "ifindex 99999");
    assert.equal((await ours(indexes[7] as number)).length, 2);
    assert.equal(await library.detach(pins, indexes), 14);
  });

  /** What a process says that attaches from our pins and is killed then. */
  async function attachInChild(
    ifindex: number,
    mode: HookMode,
    ...prefix: readonly string[]
  ): Promise<string> {
    const file = fileURLToPath(new URL("support/attach-child.ts", import.meta.url));
    const own = [process.execPath, "--import", "tsx", file, pins, `${ifindex}`, mode, JSON.stringify(SMALL)];
    const [command = "", ...args] = [...prefix, ...own];
    const child = spawn(command, args, { stdio: ["ignore", "pipe", "inherit"] });
    children.push(child);
    const [text] = (await once(child.stdout, "data")) as [Buffer];
    await end(child);
    return text.toString();
  }

  test("Listing and detaching a hundred interfaces does not hold up the event loop", async () => {
    const file = join(scratch(), "links");
    const names = Array.from({ length: 100 }, (_, i) => `crowd${i}`);
    writeFileSync(file, names.map((name) => `link add ${name} type bridge`).join("\n"));
    ip("-batch", file);
    const crowd = library.interfaces().filter(({ name }) => name.startsWith("crowd"));
    const indexes = crowd.map(({ ifindex }) => ifindex);
    await loaded.attach(indexes.map((ifindex) => ({ ifindex, role: Role.POD, mode: "clsact" })));
    /** Whether the event loop came round before the work was done: a synchronous call would be done first. */
    const letsOthersIn = async (work: Promise<unknown>): Promise<boolean> => {
      const turn = new Promise((resolve) => setImmediate(() => resolve("turn")));
      return (await Promise.race([work.then(() => "work"), turn])) === "turn";
    };
    const listing = library.attachments(indexes);
    assert.ok(await letsOthersIn(listing));
    assert.equal((await listing).length, 200);
    const detaching = library.detach(pins, indexes);
    assert.ok(await letsOthersIn(detaching));
    assert.equal(await detaching, 200);
    writeFileSync(file, names.map((name) => `link del ${name}`).join("\n"));
    ip("-batch", file);
  });

  for (const mode of ["tcx", "clsact"] as const)
    test(`Programs attached with ${mode} outlive a process that is killed, and the next one takes them over`, {
      skip: mode === "tcx" && skip,
    }, async () => {
      const ifindex = freshVeth();
      assert.equal(await attachInChild(ifindex, mode), "attached\n");
      const orphaned = await ours(ifindex);
      assert.deepEqual(
        orphaned.map((entry) => `${entry.mode} ${entry.name}`),
        [`${mode} ptl_pod_in`, `${mode} ptl_pod_out`],
      );
      assert.deepEqual(await attach(ifindex, mode), { ifindex, ok: true, mode, change: "replaced" });
      const adopted = await ours(ifindex);
      assert.deepEqual(
        adopted.map((entry) => [entry.linkId, entry.position]),
        orphaned.map((entry) => [entry.linkId, entry.position]),
      );
      for (const [n, entry] of adopted.entries()) assert.notEqual(entry.programId, orphaned[n]?.programId);
    });

  test("A process in another network namespace neither sweeps away nor takes over links that are at work", {
    skip,
  }, async () => {
    const loopback = 1; // the one index that every namespace has
    assert.deepEqual(await attach(loopback, "tcx"), { ifindex: 1, ok: true, mode: "tcx", change: "new" });
    const before = await ours(loopback);
    assert.equal(before.length, 2);
    assert.match(await attachInChild(loopback, "tcx", "unshare", "--net"), /another network namespace/);
    assert.deepEqual(await ours(loopback), before);
    assert.equal(await library.detach(pins, [loopback]), 2);
  });

  test("A failure in one direction leaves what an earlier life put there", async () => {
    const ifindex = freshVeth();
    const name = `v${counter}`;
    assert.equal((await attach(ifindex, "clsact")).ok, true);
    tc("filter", "del", "dev", name, "ingress", "pref", "10");
    tc("filter", "add", "dev", name, "ingress", "pref", "10", "handle", "0x50544c", "bpf", ...CLASSIC);
    const result = await attach(ifindex, "clsact");
    assert.ok(!result.ok);
    assert.equal(result.error.code, "E_NATIVE_FOREIGN_FILTER");
    assert.deepEqual(await hooks(ifindex), ["in clsact 0 bpf", "out clsact 0 ptl_pod_out"]);
    assert.equal(await library.detach(pins, [ifindex]), 1);
    assert.deepEqual(await hooks(ifindex), ["in clsact 0 bpf"]);
  });

  test("Hundreds of other people's filters at a hook are no obstacle, and are listed behind ours", async () => {
    const ifindex = freshVeth();
    const name = `v${counter}`;
    const others = Array.from({ length: 150 }, (_, i) => 20 + i);
    const file = join(scratch(), "filters");
    const line = (pref: number): string =>
      `filter add dev ${name} ingress pref ${pref} bpf ${CLASSIC.map((word) => `"${word}"`).join(" ")}`;
    writeFileSync(file, [`qdisc add dev ${name} clsact`, ...others.map(line)].join("\n"));
    tc("-batch", file);
    assert.deepEqual(await attach(ifindex, "clsact"), { ifindex, ok: true, mode: "clsact", change: "new" });
    const found = await library.attachments([ifindex]);
    const incoming = found.filter(({ direction }) => direction === "in");
    assert.deepEqual(
      incoming.map(({ priority }) => priority),
      [10, ...others],
    );
    assert.equal(await library.detach(pins, [ifindex]), 2);
  });

  test("The pins of interfaces that are gone are swept away, and those of living ones stay", {
    skip,
  }, async () => {
    const gone = freshVeth();
    const goneName = `v${counter}`;
    const stays = freshVeth();
    const goneClsact = freshVeth();
    const goneClsactName = `v${counter}`;
    await attach(gone, "tcx");
    await attach(stays, "tcx");
    await attach(goneClsact, "clsact");
    ip("link", "del", goneName);
    ip("link", "del", goneClsactName);
    const names = (): string[] => readdirSync(join(pins, "links"));
    assert.ok(names().includes(`${gone}-in`));
    assert.equal(library.sweep(pins), 4);
    assert.ok(!names().some((name) => name.startsWith(`${gone}-`) || name.startsWith(`${goneClsact}-`)));
    assert.ok(names().includes(`${stays}-in`) && names().includes(`${stays}-out`));
    assert.equal((await ours(stays)).length, 2);
    assert.equal(library.sweep(pins), 0);
  });

  test("A pin left by an interface whose index came back is not taken for ours", { skip }, async () => {
    ip("link", "add", "again", "index", "5000", "type", "veth", "peer", "name", "againp");
    await attach(5000, "tcx");
    ip("link", "del", "again");
    ip("link", "add", "again", "index", "5000", "type", "veth", "peer", "name", "againp");
    assert.deepEqual(await attach(5000, "tcx"), { ifindex: 5000, ok: true, mode: "tcx", change: "new" });
    assert.equal((await ours(5000)).length, 2);
  });

  test("Cleaning up takes everything off and away, whatever the mode, and leaves the rest alone", async () => {
    const own = freshPins(library);
    const object = await library.open({ pins: own, maxEntries: SMALL });
    const [a, b] = [freshVeth(), freshVeth()];
    const bName = `v${counter}`;
    const modes: readonly HookMode[] = ["auto", "clsact"];
    await object.attach(
      [a, b].map((ifindex, i) => ({ ifindex, role: Role.POD, mode: modes[i] as HookMode })),
    );
    const other = await attach(freshVeth(), "auto");
    await object.close();
    assert.equal((await ours(a)).length + (await ours(b)).length, 4);
    assert.ok(library.cleanup(own) >= 4);
    assert.deepEqual([...(await hooks(a)), ...(await hooks(b))], []);
    assert.doesNotMatch(qdiscs(bName), /clsact/);
    assert.ok(!existsSync(own));
    assert.equal(library.cleanup(own), 0);
    assert.equal((await ours(other.ifindex)).length, 2, "attached from other pins");
  });

  test("Attaching needs pins: without them nothing would outlive the process", async () => {
    const unpinned = await library.open({ pins: "", maxEntries: SMALL });
    const ifindex = freshVeth();
    await assert.rejects(
      unpinned.attach([{ ifindex, role: Role.POD, mode: "auto" }]),
      /only from an object with pins/,
    );
    assert.deepEqual(await hooks(ifindex), []);
    await unpinned.close();
  });

  test("Attaching, listing and detaching leaves no file descriptor behind", async () => {
    const ifindex = freshVeth();
    const cycle = async (): Promise<void> => {
      for (const mode of ["auto", "clsact"] as const) await attach(ifindex, mode);
      await library.attachments([ifindex]);
      library.sweep(pins);
      await library.detach(pins, [ifindex]);
      library.interfaces();
    };
    await cycle();
    const start = openFiles();
    for (let i = 0; i < 5; i++) await cycle();
    assert.deepEqual(openFiles(), start);
  });
});
