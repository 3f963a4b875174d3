// SPDX-License-Identifier: Apache-2.0
// The source and the compiler, without a kernel, against an API server: the fixture, and a real one where there is one.
import { describe, test } from "node:test";
import { backends, NOT_REAL } from "../support/apiserver/backend.js";
import { SourceFollower } from "../support/apiserver/source-follower.js";
import { suite } from "./suite.js";

const NODE = { name: "node-a", address: "192.0.2.1" };

for (const choice of backends())
  describe(`source and compiler against ${choice.name}`, () => {
    suite("the source", choice, NODE, (backend, gate) => SourceFollower.start(backend, gate, NODE.name));
  });

test("the source is tested against a real kube-apiserver", {
  skip: backends().length > 1 ? false : "KUBEBUILDER_ASSETS is not set",
}, () => {});

if (backends().length === 1) process.stderr.write(NOT_REAL);
