// SPDX-License-Identifier: Apache-2.0
/**
 * Portolan as a library: compile Services to what a node's maps must hold, write that into pinned maps, read them back,
 * and keep the programs on interfaces. The command line and the agent are built from the same parts.
 *
 * @example
 * const { snapshot } = await readManifests(["examples/redis"], { nodeName: "n1" });
 * const image = compile(snapshot);
 * const maps = await new NativeLibrary().open({ pins: "/sys/fs/bpf/portolan/v1" });
 * await new Reconciler({ kernel: maps }).sync(image);
 */

// Maps: open, load, read.
export { LAYOUT_VERSION } from "./abi/abi-hash.gen.js";
export { MAP_NAMES, MAPS, type MapName, type MapSpec } from "./abi/maps.gen.js";
// Compile: pure, no kernel.
export {
  localDetectors,
  type ProxyOptions,
  type ProxyOptionTexts,
  parseProxyOptions,
  proxyConfig,
} from "./config/proxy-options.js";
export type { ProxySettings } from "./config/proxy-settings.js";
// Dataplane: publish, attach, run.
export { type AgentConfig, runAgent } from "./daemon/run.js";
export { type Hooks, InterfaceKeeper, type LinkSnapshot } from "./dataplane/attach.js";
export {
  type InterfaceOptions,
  type InterfacePlan,
  type InterfaceRole,
  planInterfaces,
} from "./dataplane/interfaces.js";
export { layoutDirectory, requirePins } from "./dataplane/pins.js";
export { Reconciler, type ReconcilerOptions, type SyncResult } from "./dataplane/reconciler.js";
export {
  type BackendRow,
  backendsView,
  type FlowRow,
  readFlows,
  readTables,
  type ServiceRow,
  serviceKey,
  servicesView,
  type Tables,
} from "./dataplane/view.js";
export {
  type Compiler,
  compile,
  createCompiler,
  DEFAULT_PROXY_CONFIG,
  NO_HOST_FACTS,
} from "./image/compile.js";
export { describeImage, type ImageDescription, imageLines, problemLine } from "./image/describe.js";
export type { BackendImage, ChoiceImage, FrontendImage, Image, ServicePortImage } from "./image/types.js";
export type {
  Endpoint,
  EndpointSlice,
  HostFacts,
  NodeInfo,
  Origin,
  Problem,
  ProxyConfig,
  ReservedAddress,
  Service,
  ServicePortSpec,
  Snapshot,
} from "./model/types.js";
export { NativeError } from "./native/errors.js";
export type { ApplyResult, KernelMaps, MapDump, MapInfo, MapWrite } from "./native/kernel.js";
export { NativeLibrary, type OpenOptions } from "./native/lib.js";
export { MemoryKernel } from "./native/memory.js";
export type { LoadedObject } from "./native/object.js";
export { type IpAddress, ipFromBytes, parseIp } from "./net/ip.js";
export { FileSource, type FileSourceOptions } from "./source/file/file-source.js";
export { type ManifestSet, type ReadOptions, readManifests } from "./source/file/read-manifests.js";
export { AppError, UserError } from "./util/errors.js";
export type { Logger } from "./util/log.js";
