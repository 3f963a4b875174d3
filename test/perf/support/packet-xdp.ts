// SPDX-License-Identifier: Apache-2.0
/**
 * The XDP program for the benchmark of packets: a node with uplinks (test/bpf/support/uplink.ts), a NodePort whose backends are
 * on another node, and clients outside.
 */
import { FrontendFlag } from "../../../src/abi/enums.gen.js";
import type { NativeLibrary } from "../../../src/native/lib.js";
import type { LoadedObject } from "../../../src/native/object.js";
import { FAMILIES, type Family } from "../../../src/net/ip.js";
import { addressesOf } from "../../bpf/support/addresses.js";
import { Bench, Lab } from "../../bpf/support/lab.js";
import { nodePort } from "../../bpf/support/scenario.js";
import { TEST_CONFIG } from "../../bpf/support/test-kernel.js";
import { describeUplinks, macOf, makeUplinks, removeUplinks } from "../../bpf/support/uplink.js";
import { FAR_MAC, ip } from "../../bpf/support/wire.js";
import { type Packet, tcp } from "../../support/packet.js";

const NODE_PORT = 30080;
const FIRST_PORT = 1_024;
/** Each flow to one backend needs a port of the node: with so many, 65,536 flows find one. */
const BACKENDS = 16;
/** Those of the agent's default. */
const SNAT_PORTS = { snatPortBase: [10_240, 61_000], snatPortCount: [19_760, 4_536] } as const;
/** Clients, all behind the one whose link address is known. */
const CLIENTS = {
  4: ["198.51.104.0/22", "198.51.104.0"],
  6: ["2001:db8:5::/64", "2001:db8:5::1:0"],
} as const;

export interface XdpNode {
  readonly kernel: LoadedObject;
  /** The interface by which the packets come. */
  readonly arrival: number;
  /** A client's packet to the NodePort. */
  packet(family: Family, flags: string): Packet;
  close(): Promise<void>;
}

/** In the process's own network namespace. `pins`: a directory below a bpf file system of its own, which the XDP link needs. */
export async function openXdpNode(library: NativeLibrary, pins: string): Promise<XdpNode> {
  const kernel = await library.open({
    pins,
    sockets: false,
    xdp: true,
    config: { ...TEST_CONFIG, ...SNAT_PORTS },
  });
  const bench = new Bench(kernel);
  const wires = await makeUplinks(bench);
  for (const family of FAMILIES) {
    ip("route", "add", CLIENTS[family][0], "via", addressesOf(family).stranger, "dev", "near", "onlink");
    const lab = new Lab(bench, family);
    await lab.reset();
    await describeUplinks(lab, wires);
    await nodePort(lab, {
      flags: FrontendFlag.FRONTEND_MASQUERADE,
      endpoints: Array.from({ length: BACKENDS }, (_, i) => ({ host: "backend", port: 8080 + i })),
    });
  }
  return {
    kernel,
    arrival: wires.near,
    packet: (family, flags) => ({
      src: CLIENTS[family][1],
      dst: addressesOf(family).nodeip,
      payload: tcp(FIRST_PORT, NODE_PORT, flags),
      eth: { src: FAR_MAC, dst: macOf("near") },
    }),
    close: async () => {
      await kernel.close();
      removeUplinks();
    },
  };
}
