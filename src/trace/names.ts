// SPDX-License-Identifier: Apache-2.0
/** Names for what the maps hold as numbers. */
import { viewOf } from "../abi/codec.js";
import { serviceNameCodec } from "../abi/layout.gen.js";
import { protocolName, serviceKey, unnamed } from "../dataplane/view.js";
import type { NetworkInterface } from "../native/interfaces.js";
import type { KernelMaps } from "../native/kernel.js";

export interface Names {
  /** "namespace/name:port/PROTOCOL", or "#12" for an index without a name. */
  readonly service: (index: number) => string;
  /** An interface's name, or "#12". */
  readonly interface: (ifindex: number) => string;
}

/** Reads the names of Services. */
export async function readNames(kernel: KernelMaps, interfaces: readonly NetworkInterface[]): Promise<Names> {
  const dump = await kernel.dump("services");
  const [keys, values] = [viewOf(dump.keys), viewOf(dump.values)];
  const services = new Map<number, string>();
  for (let i = 0; i < dump.count; i += 1) {
    const index = keys.getUint32(i * 4, true);
    const {
      namespaceName: namespace,
      name,
      portName,
      protocol,
    } = serviceNameCodec.decodeFrom(values, i * serviceNameCodec.size);
    services.set(index, serviceKey({ index, namespace, name, portName, protocol: protocolName(protocol) }));
  }
  const links = new Map(interfaces.map(({ ifindex, name }) => [ifindex, name]));
  return {
    service: (index) => services.get(index) ?? serviceKey(unnamed(index)),
    interface: (ifindex) => (ifindex === 0 ? "the node" : (links.get(ifindex) ?? `#${ifindex}`)),
  };
}
