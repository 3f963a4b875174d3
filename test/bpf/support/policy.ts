// SPDX-License-Identifier: Apache-2.0
/** What beside a frontend decides about a new flow: source ranges, Service networks, session affinity. */
import { affinityCodec, FAMILY_CODECS } from "../../../src/abi/layout.gen.js";
import { MAPS } from "../../../src/abi/maps.gen.js";
import { addressBytes } from "../../support/packet-address.js";
import { type Host, hostName } from "./addresses.js";
import { type Lab, type Service, u32 } from "./lab.js";

/** Lets the senders of a network use the frontends of a Service port that ask for source ranges. */
export async function allowSource(lab: Lab, service: Service, network: string): Promise<void> {
  const [text = "", length] = network.split("/");
  const key = FAMILY_CODECS[lab.family].sourceRange.encode({
    prefixLength: 32 + Number(length),
    service: service.index,
    addr: addressBytes(text),
  });
  await lab.set(lab.map("source_ranges"), key, u32(1));
}

/** The range of one host. */
export const only = (lab: Lab, host: Host): string => `${lab.at[host]}/${lab.family === 4 ? 32 : 128}`;

/** Makes a network one that ClusterIPs come from. */
export async function serviceNetwork(lab: Lab, network: string): Promise<void> {
  const [text = "", length] = network.split("/");
  const codec = FAMILY_CODECS[lab.family].network;
  const key = codec.encode({ prefixLength: Number(length), addr: addressBytes(text) });
  await lab.set(lab.map("service_nets"), key, u32(1));
}

export interface Remembered {
  readonly cell: number;
  readonly generation: number;
  /** ns since the client's last new flow. */
  readonly age: bigint;
}

/** What is remembered, by client and service index: `stranger 3`. */
export async function remembered(lab: Lab): Promise<ReadonlyMap<string, Remembered>> {
  const map = lab.map("affinity");
  const { keySize, valueSize } = MAPS[map];
  const codec = FAMILY_CODECS[lab.family].affinityKey;
  const { count, keys, values } = await lab.kernel.dump(map);
  const now = process.hrtime.bigint();
  const out = new Map<string, Remembered>();
  for (let i = 0; i < count; i++) {
    const { client, service } = codec.decode(keys, i * keySize);
    const { backend, generation, lastNew } = affinityCodec.decode(values, i * valueSize);
    out.set(`${hostName(client)} ${service}`, { cell: backend, generation, age: now - lastNew });
  }
  return out;
}

/** Remembers a backend for a client, as if its last new flow had been `age` ns ago. */
export async function remember(
  lab: Lab,
  client: Host,
  service: Service,
  { cell, generation = 1, age = 0n }: { cell: number; generation?: number; age?: bigint },
): Promise<void> {
  const key = FAMILY_CODECS[lab.family].affinityKey.encode({
    client: addressBytes(lab.at[client]),
    service: service.index,
  });
  const lastNew = process.hrtime.bigint() - age;
  await lab.set(lab.map("affinity"), key, affinityCodec.encode({ backend: cell, generation, lastNew }));
}
