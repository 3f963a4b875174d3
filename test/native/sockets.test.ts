// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { createSocket, type Socket as UdpSocket } from "node:dgram";
import { once } from "node:events";
import { existsSync, mkdirSync, readdirSync, readFileSync, rmdirSync, writeFileSync } from "node:fs";
import { type AddressInfo, connect, createServer, type Server } from "node:net";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { socketKey4Codec, socketValue4Codec } from "../../src/abi/layout.gen.js";
import { NativeError, type NativeErrorCode } from "../../src/native/errors.js";
import { NativeLibrary } from "../../src/native/lib.js";
import type { LoadedObject } from "../../src/native/object.js";
import { cgroupId, findCgroup2 } from "../../src/native/paths.js";
import { SOCKET_HOOKS } from "../../src/native/sockets.js";
import { type IpAddress, parseIp } from "../../src/net/ip.js";
import { compileBpf } from "./support/compile.js";
import { end, freshPins, ip, isolated, scratch } from "./support/isolate.js";

const SMALL = { nat4: 1024, nat6: 1024, slots4: 1024, slots6: 1024, addresses4: 1024, addresses6: 1024 };
const VIP4 = "10.96.0.1";
const VIP6 = "fd00:96::1";

/** Sends VIP4 and VIP6 to the loopback, and notes which socket of which namespace it was. */
const REDIRECT = `#include <linux/bpf.h>
#include <bpf/bpf_endian.h>
#include "maps.bpf.h"
const volatile struct ptl_config config = {};
SEC("tc") int ptl_layout(struct __sk_buff *skb) { return config.mark; }
SEC("cgroup/connect4") int ptl_connect4(struct bpf_sock_addr *ctx)
{
  __u64 cookie = bpf_get_socket_cookie(ctx), netns = bpf_get_netns_cookie(ctx);
  struct socket_key4 key = { .cookie = { cookie, cookie >> 32 }, .port = ctx->user_port, .protocol = ctx->protocol };
  struct socket_value4 value = { .backend = netns, .generation = netns >> 32 };
  key.addr.w[0] = ctx->user_ip4;
  if (ctx->user_ip4 != bpf_htonl(0x0a600001))
    return 1;
  ctx->user_ip4 = bpf_htonl(0x7f000001);
  bpf_map_update_elem(&socket_nat4, &key, &value, BPF_ANY);
  return 1;
}
SEC("cgroup/connect6") int ptl_connect6(struct bpf_sock_addr *ctx)
{
  if (ctx->user_ip6[0] != bpf_htonl(0xfd000096) || ctx->user_ip6[3] != bpf_htonl(1))
    return 1;
  ctx->user_ip6[0] = 0;
  return 1;
}
`;
const PASS = ["sendmsg4", "sendmsg6", "recvmsg4", "recvmsg6", "getpeername4", "getpeername6"]
  .map(
    (section) =>
      `SEC("cgroup/${section}") int ptl_${section.replace("get", "")}(struct bpf_sock_addr *ctx) { return 1; }\n`,
  )
  .join("");
const LICENSE = 'char _license[] SEC("license") = "GPL";\n';

function isNative(code: NativeErrorCode, message: RegExp): (error: unknown) => true {
  return (error) => {
    assert.ok(error instanceof NativeError, String(error));
    assert.deepEqual([error.code, message.test(error.message)], [code, true], error.message);
    return true;
  };
}

function address(text: string): IpAddress {
  const parsed = parseIp(text);
  assert.ok(parsed, text);
  return parsed;
}

isolated(import.meta.url, () => {
  const library = new NativeLibrary();
  const root = findCgroup2();
  assert.ok(root, "cgroup v2 is mounted");
  const base = `${root}/portolan-native-${process.pid}`;
  const home = `${root}${readFileSync("/proc/self/cgroup", "utf8").match(/^0::(.*)$/m)?.[1]}`;
  const cgroups: string[] = [];
  let object: string;
  let tcp: Server;
  let port: number;

  function cgroup(path: string): string {
    mkdirSync(path);
    cgroups.push(path);
    return path;
  }
  /** The sockets that this process makes from now on belong to this cgroup. */
  const enter = (path: string): void => writeFileSync(`${path}/cgroup.procs`, `${process.pid}`);

  function leave(): void {
    enter(home);
    for (const path of cgroups.splice(0).reverse()) if (existsSync(path)) rmdirSync(path);
  }
  process.on("exit", leave);

  before(async () => {
    ip("link", "set", "lo", "up");
    object = compileBpf(scratch(), "redirect", REDIRECT + PASS + LICENSE);
    cgroup(base);
    tcp = createServer((socket) => socket.end());
    tcp.listen(0, "::");
    await once(tcp, "listening");
    port = (tcp.address() as AddressInfo).port;
  });
  after(() => {
    tcp?.close();
    leave();
  });

  const open = (pins: string): Promise<LoadedObject> => library.open({ pins, object, maxEntries: SMALL });

  /** True: a TCP connection to the address came about. There is no route to the VIPs. */
  async function reaches(host: string): Promise<boolean> {
    const socket = connect({ host, port });
    try {
      await once(socket, "connect");
      return true;
    } catch (error) {
      assert.equal((error as NodeJS.ErrnoException).code, "ENETUNREACH");
      return false;
    } finally {
      socket.destroy();
    }
  }
  const both = async (): Promise<boolean[]> => [await reaches(VIP4), await reaches(VIP6)];

  async function udp(type: "udp4" | "udp6", host: string, to: number): Promise<UdpSocket> {
    const socket = createSocket(type);
    socket.connect(to, host);
    await once(socket, "connect");
    return socket;
  }

  test("Attaching puts all eight programs at the cgroup, for the processes in and below it only", async () => {
    const pins = freshPins(library);
    const mine = cgroup(`${base}/attach`);
    const below = cgroup(`${mine}/below`);
    const loaded = await open(pins);
    assert.deepEqual(await loaded.attachSockets(mine), {
      cgroupId: cgroupId(mine),
      ...{ added: 8, replaced: 0, moved: 0 },
    });
    assert.deepEqual(await both(), [false, false], "this process is not in it");
    enter(mine);
    assert.deepEqual(await both(), [true, true]);
    enter(below);
    assert.deepEqual(await both(), [true, true]);
    const links = library.socketLinks(pins);
    assert.deepEqual(
      links.map(({ hook, name, cgroupId: at }) => [hook, name, at]),
      SOCKET_HOOKS.map((hook) => [hook, `ptl_${hook}`, cgroupId(mine)]),
    );
    assert.ok(links.every(({ programId, linkId, tag }) => programId && linkId && /^[0-9a-f]{16}$/.test(tag)));
    assert.equal(await library.detachSockets(pins), 8);
    assert.deepEqual(await both(), [false, false]);
    assert.deepEqual(library.socketLinks(pins), []);
    assert.equal(await library.detachSockets(pins), 0, "detaching twice is no error");
    await loaded.close();
    library.cleanup(pins);
  });

  test("A successor replaces the programs in place: no connection of a loop fails meanwhile", async () => {
    const pins = freshPins(library);
    const mine = cgroup(`${base}/restart`);
    enter(mine);
    let current = await open(pins);
    await current.attachSockets(mine);
    const before = library.socketLinks(pins);
    let done = false;
    let connections = 0;
    const loop = (async () => {
      while (!done) {
        assert.deepEqual(await both(), [true, true], `connection ${connections}`);
        connections++;
      }
    })();
    for (let i = 0; i < 5; i++) {
      const next = await open(pins);
      assert.equal((await next.attachSockets(mine)).replaced, 8);
      await current.close();
      current = next;
    }
    done = true;
    await loop;
    assert.ok(connections > 5, `${connections} connections`);
    const links = library.socketLinks(pins);
    assert.deepEqual(
      links.map(({ linkId }) => linkId),
      before.map(({ linkId }) => linkId),
    );
    for (const [i, link] of links.entries()) assert.notEqual(link.programId, before[i]?.programId);
    await current.close();
    library.cleanup(pins);
  });

  test("Programs stay at work when their process is killed, and cleanup takes them off", async () => {
    const pins = freshPins(library);
    const mine = cgroup(`${base}/death`);
    enter(mine);
    const file = fileURLToPath(new URL("./support/attach-sockets-child.ts", import.meta.url));
    const argv = ["--import", "tsx", file, pins, object, mine, JSON.stringify(SMALL)];
    const child = spawn(process.execPath, argv, { stdio: ["ignore", "pipe", "inherit"] });
    const [text] = (await once(child.stdout, "data")) as [Buffer];
    assert.equal(`${text}`, "8\n");
    await end(child);
    assert.deepEqual(await both(), [true, true]);
    assert.equal(library.sweep(pins), 0, "what is left of interfaces is not what is at a cgroup");
    assert.deepEqual(await both(), [true, true]);
    library.cleanup(pins);
    assert.ok(!existsSync(pins));
    assert.deepEqual(await both(), [false, false]);
  });

  test("Attaching to another cgroup moves the links, and to the successor of a removed one makes them anew", async () => {
    const pins = freshPins(library);
    const first = cgroup(`${base}/first`);
    const second = cgroup(`${base}/second`);
    const loaded = await open(pins);
    await loaded.attachSockets(first);
    assert.equal((await loaded.attachSockets(second)).moved, 8);
    enter(first);
    assert.deepEqual(await both(), [false, false]);
    enter(second);
    assert.deepEqual(await both(), [true, true]);
    assert.deepEqual(
      readdirSync(`${pins}/links`).sort(),
      SOCKET_HOOKS.map((hook) => `socket-${hook}`).sort(),
    );
    enter(first);
    rmdirSync(second);
    mkdirSync(second);
    // Sockets that are closing keep the removed one, and the links at it, for a while.
    const { added, moved, cgroupId: id } = await loaded.attachSockets(second);
    assert.deepEqual([added + moved, id], [8, cgroupId(second)]);
    enter(second);
    assert.deepEqual(await both(), [true, true]);
    await loaded.close();
    library.cleanup(pins);
  });

  test("Attaching names what is wrong with the cgroup or the object, and leaves nothing behind", async () => {
    const pins = freshPins(library);
    const loaded = await open(pins);
    await assert.rejects(
      loaded.attachSockets("/none"),
      isNative("E_NATIVE_CGROUP", /Cannot open the cgroup/),
    );
    await assert.rejects(
      loaded.attachSockets("/tmp"),
      isNative("E_NATIVE_CGROUP", /not a cgroup v2 directory/),
    );
    await assert.rejects(loaded.attachSockets("/proc/self/cgroup"), isNative("E_NATIVE_CGROUP", /director/));
    await loaded.close();
    const without = await library.open({ pins, object, maxEntries: SMALL, sockets: false });
    const mine = cgroup(`${base}/errors`);
    await assert.rejects(without.attachSockets(mine), isNative("E_NATIVE_OBJECT", /lacks the program ptl_/));
    await without.close();
    assert.deepEqual(library.socketLinks(pins), []);
    library.cleanup(pins);
    const unpinned = await open("");
    await assert.rejects(unpinned.attachSockets(mine), isNative("E_NATIVE_ARGUMENT", /object with pins/));
    await unpinned.close();
  });

  test("A program that holds a hook of the cgroup alone makes attaching fail, with nothing half attached", async () => {
    const pins = freshPins(library);
    const mine = cgroup(`${base}/busy`);
    const loaded = await open(pins);
    const lender = cgroup(`${base}/lender`);
    await loaded.attachSockets(lender);
    const before = library.socketLinks(pins);
    const id = before.find(({ hook }) => hook === "connect4")?.programId;
    const bpftool = (...args: string[]): string => execFileSync("bpftool", args, { encoding: "utf8" });
    bpftool("cgroup", "attach", mine, "connect4", "id", `${id}`);
    await assert.rejects(loaded.attachSockets(mine), (error) => {
      isNative("E_NATIVE_CGROUP_BUSY", /ptl_connect4: another program holds this hook/)(error);
      assert.match((error as NativeError).hint ?? "", /bpftool cgroup tree/);
      return true;
    });
    assert.deepEqual(library.socketLinks(pins), before, "what was at work stays");
    assert.equal(bpftool("cgroup", "show", mine).match(/ptl_/g)?.length, 1, "only the other one is there");
    bpftool("cgroup", "detach", mine, "connect4", "id", `${id}`);
    assert.equal((await loaded.attachSockets(mine)).moved, 8);
    await loaded.close();
    library.cleanup(pins);
  });

  test("The cookie of the namespace is the one that programs see", async () => {
    const pins = freshPins(library);
    const mine = cgroup(`${base}/cookie`);
    enter(mine);
    const loaded = await open(pins);
    await loaded.attachSockets(mine);
    assert.ok(await reaches(VIP4));
    const { count, values } = await loaded.dump("socket_nat4");
    assert.equal(count, 1);
    const { backend, generation } = socketValue4Codec.decode(values);
    const cookie = library.netnsCookie();
    assert.ok(cookie > 0n);
    assert.equal((BigInt(generation) << 32n) | BigInt(backend), cookie);
    const setRetval = library.probe().find(({ name }) => name === "set_retval");
    assert.equal(setRetval?.available, true, "this kernel is newer than 5.18");
    await loaded.close();
    library.cleanup(pins);
  });

  test("A connected UDP socket is destroyed by its remote end, in every family; others are left alone", async () => {
    const server = createSocket("udp6");
    server.bind(0, "::");
    await once(server, "listening");
    const to = server.address().port;
    const four = await udp("udp4", "127.0.0.1", to);
    const six = await udp("udp6", "::1", to);
    const mappedFour = await udp("udp6", "::ffff:127.0.0.1", to);
    const bystanders = [await udp("udp4", "127.0.0.2", to), await udp("udp4", "127.0.0.1", to ^ 1)];
    const errors = [four, mappedFour].map((socket) => once(socket, "error"));
    const answer = await library.destroyUdpSockets([{ cookie: 0n, address: address("127.0.0.1"), port: to }]);
    assert.deepEqual(answer, { matched: 2, destroyed: 2, unsupported: false });
    for (const [error] of await Promise.all(errors))
      assert.equal((error as NodeJS.ErrnoException).code, "ECONNABORTED");
    const sixError = once(six, "error");
    assert.deepEqual(await library.destroyUdpSockets([{ cookie: 0n, address: address("::1"), port: to }]), {
      ...{ matched: 1, destroyed: 1, unsupported: false },
    });
    assert.equal(((await sixError)[0] as NodeJS.ErrnoException).code, "ECONNABORTED");
    const [bystander] = bystanders;
    bystander?.send("hello");
    const [message] = (await once(server, "message")) as [Buffer];
    assert.equal(`${message}`, "hello", "the remote end of another address is still connected");
    assert.deepEqual(await library.destroyUdpSockets([]), { matched: 0, destroyed: 0, unsupported: false });
    for (const socket of [server, four, six, mappedFour, ...bystanders]) socket.close();
  });

  test("A cookie singles out one of many sockets with one remote end, in a table of 3,000", async () => {
    const pins = freshPins(library);
    const mine = cgroup(`${base}/cookies`);
    enter(mine);
    const loaded = await open(pins);
    await loaded.attachSockets(mine);
    const server = createSocket("udp4");
    server.bind(0, "127.0.0.1");
    await once(server, "listening");
    const to = server.address().port;
    const marked = await udp("udp4", VIP4, to);
    const others = await Promise.all(Array.from({ length: 3000 }, () => udp("udp4", "127.0.0.1", to)));
    const { keys, count } = await loaded.dump("socket_nat4");
    assert.equal(count, 1);
    const [low, high] = socketKey4Codec.decode(keys).cookie as [number, number];
    const cookie = (BigInt(high) << 32n) | BigInt(low);
    const target = { address: address("127.0.0.1"), port: to };
    const wrong = await library.destroyUdpSockets([{ ...target, cookie: cookie + (1n << 40n) }]);
    assert.deepEqual(wrong, { matched: 0, destroyed: 0, unsupported: false });
    const failed = once(marked, "error");
    const right = await library.destroyUdpSockets([
      { ...target, port: to ^ 1, cookie: 0n },
      { ...target, cookie },
    ]);
    assert.deepEqual(right, { matched: 1, destroyed: 1, unsupported: false });
    assert.equal(((await failed)[0] as NodeJS.ErrnoException).code, "ECONNABORTED");
    const all = others.map((socket) => once(socket, "error"));
    assert.equal((await library.destroyUdpSockets([{ ...target, cookie: 0n }])).destroyed, 3000);
    await Promise.all(all);
    for (const socket of [server, marked, ...others]) socket.close();
    await loaded.close();
    library.cleanup(pins);
  });
});
