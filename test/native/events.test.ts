// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, test } from "node:test";
import type { InterfaceEvent, InterfaceWatch, NetworkInterface } from "../../src/native/interfaces.js";
import { NativeLibrary } from "../../src/native/lib.js";
import { addVeth, ifindexOf, ip, isolated, openFiles, scratch } from "./support/isolate.js";

/** Collects events and waits for one that fits. */
class Recorder {
  readonly events: InterfaceEvent[] = [];
  readonly errors: Error[] = [];
  #changed: () => void = () => {};

  readonly onEvent = (event: InterfaceEvent): void => {
    this.events.push(event);
    this.#changed();
  };

  readonly onError = (error: Error): void => {
    this.errors.push(error);
    this.#changed();
  };

  async find(wanted: (event: InterfaceEvent) => boolean): Promise<InterfaceEvent> {
    for (let from = 0; ; ) {
      for (; from < this.events.length; from++) {
        const event = this.events[from] as InterfaceEvent;
        if (wanted(event)) return event;
      }
      if (this.errors[0]) throw this.errors[0];
      await new Promise<void>((resolve) => {
        this.#changed = resolve;
      });
    }
  }
}

isolated(import.meta.url, () => {
  const library = new NativeLibrary();
  const watches: InterfaceWatch[] = [];
  after(() => {
    for (const watch of watches) watch.close();
  });

  function record(...topics: readonly ("link" | "address" | "route")[]): Recorder {
    const recorder = new Recorder();
    watches.push(library.watch(topics, recorder.onEvent, recorder.onError));
    return recorder;
  }

  const named = (name: string): NetworkInterface => {
    const found = library.interfaces().find((each) => each.name === name);
    assert.ok(found, name);
    return found;
  };

  test("The list of interfaces tells kind, master, peer and addresses of both families", () => {
    const ifindex = addVeth("pod0", "eth9");
    ip("link", "add", "cni0", "type", "bridge");
    ip("link", "set", "pod0", "master", "cni0");
    ip("link", "add", "flannel.1", "type", "vxlan", "id", "1", "dev", "eth9", "dstport", "8472");
    ip("link", "set", "lo", "up");
    ip("addr", "add", "10.244.1.1/24", "dev", "cni0");
    ip("addr", "add", "fd00:1::1/64", "dev", "cni0", "nodad");
    ip("addr", "add", "10.9.0.1", "peer", "10.9.0.2/32", "dev", "eth9");
    const pod = named("pod0");
    assert.equal(pod.ifindex, ifindex);
    assert.deepEqual([pod.kind, pod.masterKind, pod.arpType, pod.mtu], ["veth", "bridge", 1, 1500]);
    assert.equal(pod.master, ifindexOf("cni0"));
    assert.equal(pod.peer, ifindexOf("eth9"));
    assert.equal(pod.peerNamespace, null);
    assert.ok(pod.flags & 1, "up");
    const bridge = named("cni0");
    assert.deepEqual([bridge.kind, bridge.master], ["bridge", 0]);
    const addresses = bridge.addresses.map(({ family, prefix, address }) => [
      family,
      prefix,
      Buffer.from(address).toString("hex"),
    ]);
    assert.ok(
      addresses.some((entry) => entry.join() === "4,24,0af40101"),
      JSON.stringify(addresses),
    );
    assert.ok(
      addresses.some((entry) => entry.join() === `6,64,fd000001${"0".repeat(22)}01`),
      JSON.stringify(addresses),
    );
    assert.deepEqual([named("flannel.1").kind, named("flannel.1").peer], ["vxlan", ifindexOf("eth9")]);
    const own = named("eth9").addresses.find((entry) => entry.family === 4);
    assert.equal(Buffer.from(own?.address ?? []).toString("hex"), "0a090001", "ours, not the other end's");
    assert.equal(named("lo").arpType, 772);
  });

  test("The list of interfaces is complete when there are hundreds of them", () => {
    const file = join(scratch(), "batch");
    const names = Array.from({ length: 300 }, (_, i) => `many${i}`);
    writeFileSync(file, names.map((name) => `link add ${name} type bridge`).join("\n"));
    ip("-batch", file);
    const found = new Set(library.interfaces().map((each) => each.name));
    assert.ok(names.every((name) => found.has(name)));
    writeFileSync(file, names.map((name) => `link del ${name}`).join("\n"));
    ip("-batch", file);
  });

  test("A veth whose other end is in another namespace says so", () => {
    const child = execFileSync("sh", ["-c", "unshare --net sleep 30 >/dev/null 2>&1 & echo $!"], {
      encoding: "utf8",
    });
    const pid = Number(child);
    try {
      addVeth("far0", "far1");
      // unshare needs a moment to be in its namespace.
      while (
        execFileSync("readlink", [`/proc/${pid}/ns/net`]).equals(
          execFileSync("readlink", ["/proc/self/ns/net"]),
        )
      );
      ip("link", "set", "far1", "netns", `${pid}`);
      assert.notEqual(named("far0").peerNamespace, null);
    } finally {
      process.kill(pid);
    }
  });

  test("Events tell of interfaces that come, change, join a bridge and go", async () => {
    const recorder = record("link");
    const ifindex = addVeth("new0");
    const came = await recorder.find((event) => event.kind === "link" && event.name === "new0");
    assert.equal(came.kind === "link" && came.ifindex, ifindex);
    await recorder.find((event) => event.kind === "link" && event.name === "new0" && (event.flags & 1) === 1);
    ip("link", "add", "newbr", "type", "bridge");
    ip("link", "set", "new0", "master", "newbr");
    const bridge = ifindexOf("newbr");
    await recorder.find((event) => event.kind === "link" && event.name === "new0" && event.master === bridge);
    // Leaving a bridge is not the end of the interface.
    const before = recorder.events.length;
    ip("link", "set", "new0", "nomaster");
    await recorder.find(
      (event) =>
        recorder.events.indexOf(event) >= before &&
        event.kind === "link" &&
        event.master === 0 &&
        event.name === "new0",
    );
    assert.ok(!recorder.events.some((event) => event.kind === "link-gone" && event.ifindex === ifindex));
    ip("link", "del", "new0");
    const gone = await recorder.find((event) => event.kind === "link-gone" && event.ifindex === ifindex);
    assert.equal(gone.kind === "link-gone" && gone.name, "new0");
  });

  test("Events tell of addresses of both families, and of routes when asked", async () => {
    const addresses = record("address");
    const routes = record("route");
    addVeth("addr0");
    const hex = (event: InterfaceEvent): string =>
      "address" in event ? Buffer.from(event.address).toString("hex") : "";
    ip("addr", "add", "192.0.2.1/24", "dev", "addr0");
    const v4 = await addresses.find((event) => event.kind === "address" && hex(event) === "c0000201");
    assert.ok("prefix" in v4 && v4.prefix === 24 && v4.family === 4);
    ip("addr", "add", "2001:db8::7/64", "dev", "addr0", "nodad");
    await addresses.find((event) => event.kind === "address" && hex(event).startsWith("20010db8"));
    ip("addr", "del", "192.0.2.1/24", "dev", "addr0");
    await addresses.find((event) => event.kind === "address-gone" && hex(event) === "c0000201");
    await routes.find((event) => event.kind === "route");
    assert.ok(addresses.events.every((event) => event.kind === "address" || event.kind === "address-gone"));
    assert.ok(routes.events.every((event) => event.kind === "route"));
  });

  test("A reader that sleeps through more than the kernel keeps is told to dump again", async () => {
    const recorder = record("route");
    addVeth("flood0");
    ip("addr", "add", "198.51.100.1/24", "dev", "flood0");
    const file = join(scratch(), "routes");
    const routes = Array.from(
      { length: 20_000 },
      (_, i) => `route add 10.${i >> 8}.${i & 255}.0/24 via 198.51.100.2`,
    );
    writeFileSync(file, routes.join("\n"));
    ip("-batch", file); // blocks this event loop, so nobody reads the pipe meanwhile
    await recorder.find((event) => event.kind === "resync");
    assert.ok(recorder.events.length < 20_000);
    assert.deepEqual(recorder.errors, []);
  });

  test("A closed watch is silent, may be closed twice, and leaves no file descriptor behind", async () => {
    const cycle = async (): Promise<void> => {
      const recorder = new Recorder();
      const watch = library.watch(["link", "address", "route"], recorder.onEvent, recorder.onError);
      ip("link", "add", "cycle0", "type", "bridge");
      await recorder.find((event) => event.kind === "link" && event.name === "cycle0");
      watch.close();
      watch.close();
      const count = recorder.events.length;
      ip("link", "del", "cycle0");
      await new Promise((resolve) => setImmediate(resolve));
      assert.equal(recorder.events.length, count);
      assert.deepEqual(recorder.errors, []);
    };
    await cycle();
    const before = openFiles();
    for (let i = 0; i < 20; i++) await cycle();
    assert.deepEqual(openFiles(), before);
  });
});
