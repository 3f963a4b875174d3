// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { test } from "node:test";
import { type FeatureGate, featureGates, SERVICE_CIDR_GATE } from "../../../src/config/feature-gates.js";

const of = (name: string, configured: Readonly<Record<string, boolean>> = {}): FeatureGate | undefined =>
  featureGates(configured).find((gate) => gate.name === name);

test("the gates that bear on a Service proxy are listed with stage and default when none is configured (11.4)", () => {
  assert.deepEqual(of(SERVICE_CIDR_GATE), { name: SERVICE_CIDR_GATE, stage: "", enabled: true });
  assert.deepEqual(of("LoggingAlphaOptions"), {
    name: "LoggingAlphaOptions",
    stage: "ALPHA",
    enabled: false,
  });
  assert.deepEqual(of("LoggingBetaOptions"), { name: "LoggingBetaOptions", stage: "BETA", enabled: true });
});

test("a configured gate has the configured value, also one that is not known", () => {
  assert.equal(of(SERVICE_CIDR_GATE, { [SERVICE_CIDR_GATE]: false })?.enabled, false);
  assert.deepEqual(of("NoSuchGate", { NoSuchGate: true }), { name: "NoSuchGate", stage: "", enabled: true });
  assert.equal(of("toString", { toString: true } as unknown as Record<string, boolean>)?.stage, "");
});

test("AllAlpha and AllBeta hold for their stage, but not for a gate that is named itself", () => {
  assert.equal(of("LoggingAlphaOptions", { AllAlpha: true })?.enabled, true);
  assert.equal(of("LoggingBetaOptions", { AllBeta: false })?.enabled, false);
  assert.equal(of("LoggingBetaOptions", { AllBeta: false, LoggingBetaOptions: true })?.enabled, true);
  assert.equal(of("AllBeta", { AllAlpha: true })?.enabled, false);
  assert.equal(of("AllAlpha", { AllAlpha: true })?.enabled, true);
});
