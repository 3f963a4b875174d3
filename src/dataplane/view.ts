// SPDX-License-Identifier: Apache-2.0
/**
 * The maps joined into what a person wants to see. Works on what the kernel holds, whoever wrote it: nothing is believed
 * and nothing is refused; what cannot be resolved says so.
 *
 *   readTables(kernel)          -> Promise<Tables>     names, frontends, slots, cells, counts: 12 to 14 dumps
 *   servicesView(tables)        -> ServiceRow[]        one row for each frontend, sorted by service and address
 *   backendsView(tables)        -> BackendRow[]        one row for each cell in use
 *   findFlows(kernel, tables, …) -> AsyncGenerator     the flows as they come, in bounded memory
 *   readFlows(kernel, tables, { timeouts, nowTicks? }) -> Promise<FlowRow[]>   one row for each flow (2 dumps)
 *   readNodePortAddresses(kernel) -> Promise<string[]> where NodePorts are served (2 dumps)
 *   readTraffic(kernel, now)    -> Promise<TrafficReading>   what is counted at one moment (7 dumps)
 *   countActiveFlows(kernel, …) -> Promise<ActiveFlows>      live flows by service and backend (a dump for each 131,072)
 *   serviceKey(row)             -> "default/redis:http/TCP"
 *
 * Counts are bigint, ports numbers, addresses text.
 */

export { type ActiveFlows, countActiveFlows } from "./view/active.js";
export {
  type BackendRow,
  type BackendStateName,
  backendsView,
} from "./view/backends.js";
export { entries } from "./view/entries.js";
export { EVENT_TYPES, type EventType } from "./view/event-types.js";
export {
  type EventView,
  eventView,
  type FindService,
  isNews,
  kindsOf,
  serviceFinder,
  type WhyName,
} from "./view/events.js";
export { findOrphans, type OrphanReason, type OrphanRow } from "./view/flow-orphans.js";
export { type FlowState, type FlowTimeoutTicks, monotonicTicks, ticksOf } from "./view/flow-state.js";
export {
  type FlowEntries,
  type FlowOptions,
  type FlowRow,
  type FoundFlow,
  findFlows,
  readFlows,
} from "./view/flows.js";
export {
  compareServices,
  compareText,
  type Peer,
  protocolName,
  type ServiceId,
  serviceKey,
  unnamed,
} from "./view/names.js";
export type { NatReads } from "./view/nat-entries.js";
export {
  type ChoiceView,
  type FrontendKindName,
  type ServiceRow,
  servicesView,
} from "./view/services.js";
export { readNodePortAddresses, readTables, type SetName, type Tables } from "./view/tables.js";
export {
  type BackendCounts,
  backendKey,
  type NamedReads,
  readTraffic,
  type ServiceCounts,
  type TrafficReading,
} from "./view/traffic.js";
