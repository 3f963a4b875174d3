// SPDX-License-Identifier: Apache-2.0
/** Objects that are the same text as before, on other lines. */
import type { Origin } from "../../model/types.js";
import type { Projected, SourceObject } from "../objects.js";

/** The same results `delta` lines further down; the very same when that is zero. */
export function relocate(results: readonly Projected[], delta: number): readonly Projected[] {
  if (delta === 0) return results;
  const move = (origin: Origin): Origin =>
    origin.line === null ? origin : Object.freeze({ file: origin.file, line: origin.line + delta });
  return results.map((result) => ({
    identity: result.identity,
    object: result.object === null ? null : moved(result.object, move),
    problems: result.problems.map((problem) => ({
      ...problem,
      origin: problem.origin === null ? null : move(problem.origin),
    })),
    ignored: result.ignored === null ? null : { ...result.ignored, origin: move(result.ignored.origin) },
  }));
}

function moved(object: SourceObject, move: (origin: Origin) => Origin): SourceObject {
  const origin = move(object.origin);
  switch (object.kind) {
    case "Service":
      return Object.freeze({ ...object, origin, service: Object.freeze({ ...object.service, origin }) });
    case "EndpointSlice":
      return Object.freeze({ ...object, origin, slice: Object.freeze({ ...object.slice, origin }) });
    case "Endpoints": {
      const slices = object.slices.map((slice) => Object.freeze({ ...slice, origin }));
      return Object.freeze({ ...object, origin, slices: Object.freeze(slices) });
    }
    case "Pod":
    case "Node":
    case "ServiceCIDR":
      return Object.freeze({ ...object, origin });
  }
}
