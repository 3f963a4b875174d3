// SPDX-License-Identifier: Apache-2.0
/** What follows an API server, seen as Service addresses: the agent by its kernel maps, and what they ought to be. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { parseProxyOptions, proxyConfig } from "../../../src/config/proxy-options.js";
import { compile } from "../../../src/image/compile.js";
import { type DescribedChoice, describeImage } from "../../../src/image/describe.js";
import type { Snapshot } from "../../../src/model/types.js";
import { readManifests } from "../../../src/source/file/read-manifests.js";
import type { KubeObject } from "../manifests.js";
import type { ApiClient } from "./client.js";

/** Where new flows to an address go. */
export interface ChoiceOf {
  /** Sorted. Of none: what happens instead. */
  readonly backends: readonly string[] | "reject" | "drop";
  readonly set: "cluster" | "local";
}

/** One address of a Service. */
export interface Row {
  /** "default/web:http/TCP". */
  readonly key: string;
  readonly kind: string;
  /** "10.96.0.10:80". */
  readonly address: string;
  readonly affinitySeconds: number;
  readonly masquerade: string;
  readonly sourceRanges: readonly string[] | null;
  readonly internal: ChoiceOf;
  readonly external: ChoiceOf;
}

/** Something that follows an API server. */
export interface Follower {
  /** As it is now, sorted. */
  rows(): Promise<readonly Row[]>;
  /** Fails when it has met an error that it should not have. */
  check(): void;
  close(): Promise<void>;
}

const sorted = (rows: readonly Row[]): readonly Row[] =>
  [...rows].sort((a, b) => `${a.key} ${a.address}`.localeCompare(`${b.key} ${b.address}`));

const choiceOf = ({ backends, whenEmpty, set }: DescribedChoice): ChoiceOf => ({
  backends: backends.length === 0 ? whenEmpty : [...backends].sort(),
  set,
});

/** What a compile of a snapshot gives. */
export function rowsOfSnapshot(snapshot: Snapshot): readonly Row[] {
  const { servicePorts } = describeImage(
    compile(snapshot, proxyConfig(parseProxyOptions({}), snapshot.node)),
  );
  return sorted(
    servicePorts.flatMap((port) =>
      port.frontends.map(({ kind, address, masquerade, sourceRanges, internal, external }) => ({
        key: port.key,
        kind,
        address,
        affinitySeconds: port.affinitySeconds,
        masquerade,
        sourceRanges,
        internal: choiceOf(internal),
        external: choiceOf(external),
      })),
    ),
  );
}

interface ShownChoice {
  readonly backends: readonly { readonly address: string; readonly port: number }[];
  readonly set: "cluster" | "local";
  readonly whenEmpty: "reject" | "drop";
  readonly unreadable: number;
}

/** A row of `portolan services -o json`. */
interface ShownRow {
  readonly namespace: string;
  readonly name: string;
  readonly portName: string;
  readonly protocol: string;
  readonly kind: string;
  readonly address: string;
  readonly port: number;
  readonly affinitySeconds: number;
  readonly masquerade: string;
  readonly sourceRanges: readonly string[] | null;
  readonly internal: ShownChoice;
  readonly external: ShownChoice;
}

const peer = ({ address, port }: { readonly address: string; readonly port: number }): string =>
  address.includes(":") ? `[${address}]:${port}` : `${address}:${port}`;

/** What `portolan services -o json` says of the kernel's maps. @throws when a map holds what cannot be read */
export function rowsOfMaps(json: string): readonly Row[] {
  const { services } = JSON.parse(json) as { readonly services: readonly ShownRow[] };
  const shown = ({ backends, set, whenEmpty, unreadable }: ShownChoice): ChoiceOf => {
    if (unreadable > 0) throw new Error(`${unreadable} slots of the maps cannot be read`);
    return choiceOf({ backends: backends.map(peer), set, whenEmpty });
  };
  return sorted(
    services.map((row) => ({
      key: `${row.namespace}/${row.name}:${row.portName}/${row.protocol}`,
      kind: row.kind,
      address: row.kind === "NodePort" ? `*:${row.port}` : peer(row),
      affinitySeconds: row.affinitySeconds,
      masquerade: row.masquerade,
      sourceRanges: row.sourceRanges,
      internal: shown(row.internal),
      external: shown(row.external),
    })),
  );
}

const COLLECTIONS = [
  // The rules of section 1, in words of the API (1.1, 1.3, 1.5, 1.6).
  [
    "v1",
    "Service",
    "/api/v1/services?labelSelector=!service.kubernetes.io/service-proxy-name&fieldSelector=spec.clusterIP!%3DNone",
  ],
  [
    "discovery.k8s.io/v1",
    "EndpointSlice",
    "/apis/discovery.k8s.io/v1/endpointslices?labelSelector=!service.kubernetes.io/headless",
  ],
  ["networking.k8s.io/v1", "ServiceCIDR", "/apis/networking.k8s.io/v1/servicecidrs"],
] as const;

/**
 * A fresh compile of the API's state: listed now, written to a file, read and compiled by the path that knows nothing of
 * watches.
 */
export async function freshRows(client: ApiClient, nodeName: string): Promise<readonly Row[]> {
  const objects: KubeObject[] = [];
  for (const [apiVersion, kind, path] of COLLECTIONS)
    for (const item of (await client.list(path)).items) objects.push({ ...item, apiVersion, kind });
  const node = { apiVersion: "v1", kind: "Node", metadata: { name: nodeName } };
  objects.push(await client.get(node));
  const directory = mkdtempSync(`${tmpdir()}/portolan-fresh-`);
  try {
    mkdirSync(`${directory}/m`);
    const list = { apiVersion: "v1", kind: "List", items: objects };
    writeFileSync(`${directory}/m/objects.json`, JSON.stringify(list));
    const { snapshot } = await readManifests([`${directory}/m`], { nodeName, serviceCIDRs: [] });
    return rowsOfSnapshot(snapshot);
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}
