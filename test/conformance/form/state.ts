// SPDX-License-Identifier: Apache-2.0
/** A case's objects as they stand after some of its changes. */
import { canonical } from "./address.js";
import { FormError } from "./fields.js";
import type { ChangeForm, ConformanceCase, EndpointForm, NodeForm, ServiceForm, SliceForm } from "./types.js";

/** Services and slices with their names filled in. */
export interface ObjectState {
  readonly services: readonly (ServiceForm & { readonly ns: string })[];
  readonly slices: readonly NamedSlice[];
  readonly node: NodeForm;
}

export interface NamedSlice extends SliceForm {
  readonly name: string;
  readonly ns: string;
  readonly serviceName: string | null;
}

export function initialState(it: ConformanceCase): ObjectState {
  const services = it.services.map((service) => ({ ...service, ns: service.ns ?? "default" }));
  const state: ObjectState = { services, slices: [], node: it.environment.node };
  return it.slices.reduce((before, slice) => withSlice(before, slice), state);
}

/** @throws FormError when a change names a Service or slice that is not there, or could mean several */
export function changed(state: ObjectState, change: ChangeForm): ObjectState {
  switch (change.kind) {
    case "service": {
      const target = pickService(state, change.name);
      return replaceService(state, target, { ...withoutStaleAddresses(target, change.set), ...change.set });
    }
    case "label": {
      const target = pickService(state, change.name);
      return replaceService(state, target, {
        ...target,
        labels: relabelled(target.labels ?? {}, change.labels),
      });
    }
    case "addService":
      return {
        ...state,
        services: [...state.services, { ...change.service, ns: change.service.ns ?? "default" }],
      };
    case "deleteService": {
      const target = pickService(state, change.name);
      return { ...state, services: state.services.filter((service) => service !== target) };
    }
    case "addSlice":
      return withSlice(state, change.slice);
    case "deleteSlice": {
      const target = pickSlice(state, change.name);
      return { ...state, slices: state.slices.filter((slice) => slice !== target) };
    }
    case "node":
      return { ...state, node: { ...state.node, ...change.set } };
    default:
      return changedSlice(state, change);
  }
}

type SliceChange = Exclude<
  Extract<ChangeForm, { readonly slice?: string | SliceForm }>,
  { readonly kind: "addSlice" }
>;

function changedSlice(state: ObjectState, change: SliceChange): ObjectState {
  const target = pickSlice(state, change.slice);
  const replaced = (set: Partial<NamedSlice>): ObjectState => ({
    ...state,
    slices: state.slices.map((slice) => (slice === target ? { ...slice, ...set } : slice)),
  });
  switch (change.kind) {
    case "addEndpoint":
      return replaced({ endpoints: [...target.endpoints, change.endpoint] });
    case "removeEndpoint":
      mustHave(target, change.address);
      return replaced({ endpoints: target.endpoints.filter((one) => !isAt(one, change.address)) });
    case "setEndpoint":
      mustHave(target, change.address);
      return replaced({
        endpoints: target.endpoints.map((one) =>
          isAt(one, change.address) ? { ...one, ...change.endpoint } : one,
        ),
      });
    case "replaceEndpoints":
      return replaced({ endpoints: change.endpoints });
    case "slicePorts":
      return replaced({ ports: change.ports });
    case "sliceLabels":
      return replaced({ labels: relabelled(target.labels, change.labels) });
  }
}

const isAt = (endpoint: EndpointForm, address: string): boolean =>
  endpoint.addresses[0] !== undefined && canonical(endpoint.addresses[0]) === canonical(address);

function mustHave(slice: NamedSlice, address: string): void {
  if (!slice.endpoints.some((one) => isAt(one, address)))
    throw new FormError("change", `slice "${slice.name}" has no endpoint ${address}`);
}

function withSlice(state: ObjectState, slice: SliceForm): ObjectState {
  const only = state.services.length === 1 ? state.services[0] : undefined;
  const serviceName = slice.serviceName === undefined ? (only?.name ?? null) : slice.serviceName;
  const service = state.services.find((one) => one.name === serviceName);
  const name = slice.name ?? `${serviceName ?? "slice"}-${state.slices.length + 1}`;
  const named = { ...slice, name, serviceName, ns: slice.ns ?? service?.ns ?? "default" };
  return { ...state, slices: [...state.slices, named] };
}

/** A new list of cluster addresses makes the old single one void, and the other way round. */
function withoutStaleAddresses<T extends ServiceForm>(service: T, set: Partial<ServiceForm>): T {
  const copy: { -readonly [K in keyof T]: T[K] } = { ...service };
  if (set.clusterIPs !== undefined) delete copy.clusterIP;
  if (set.clusterIP !== undefined) delete copy.clusterIPs;
  return copy;
}

function relabelled(
  labels: Readonly<Record<string, string>>,
  set: Readonly<Record<string, string | null>>,
): Readonly<Record<string, string>> {
  const entries = Object.entries({ ...labels, ...set });
  return Object.fromEntries(entries.filter((entry): entry is [string, string] => entry[1] !== null));
}

function replaceService<T extends ObjectState>(
  state: T,
  old: ServiceForm,
  fresh: ServiceForm & { ns: string },
): T {
  return { ...state, services: state.services.map((service) => (service === old ? fresh : service)) };
}

function pickService(state: ObjectState, name: string | undefined): ObjectState["services"][number] {
  return pick(state.services, name, "Service");
}

function pickSlice(state: ObjectState, name: string | undefined): NamedSlice {
  return pick(state.slices, name, "slice");
}

function pick<T extends { readonly name: string }>(
  all: readonly T[],
  name: string | undefined,
  what: string,
): T {
  const found = name === undefined ? all : all.filter((one) => one.name === name);
  if (found.length === 1) return found[0] as T;
  if (name === undefined) throw new FormError("change", `must name one of ${all.length} ${what}s`);
  throw new FormError("change", `there is no ${what} "${name}"`);
}
