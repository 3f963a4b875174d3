// SPDX-License-Identifier: Apache-2.0
/** Laws of reading a file: whatever is in it, one of settings and errors comes out, and what is unknown changes nothing. */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { stringify } from "yaml";
import { KUBE_PROXY_FIELDS } from "../../../src/config/kube-proxy-settings.js";
import { type ParsedSettings, parseSettings } from "../../../src/config/parse-settings.js";

const HEAD = { apiVersion: "kubeproxy.config.k8s.io/v1alpha1", kind: "KubeProxyConfiguration" };
const GOOD = {
  ...HEAD,
  clusterCIDR: "10.0.0.0/8",
  iptables: { masqueradeAll: true, syncPeriod: "10s" },
  conntrack: { maxPerCore: 7 },
  logging: { options: { text: { splitStream: false } } },
};
const PATHS = KUBE_PROXY_FIELDS.map(({ field }) => field);
const BRANCHES = ["", "iptables", "conntrack", "logging", "logging.options", "logging.options.text"];

function parse(text: string): ParsedSettings {
  return parseSettings({ flags: {}, file: { path: "c", text }, hostname: "h" });
}

/** A copy with one more field. */
function withField(document: object, path: string, value: unknown): Record<string, unknown> {
  const copy = structuredClone(document) as Record<string, unknown>;
  const names = path.split(".");
  let node = copy;
  for (const name of names.slice(0, -1)) {
    const inner = node[name];
    node[name] = typeof inner === "object" && inner !== null ? inner : {};
    node = node[name] as Record<string, unknown>;
  }
  node[names.at(-1) ?? ""] = value;
  return copy;
}

test("A field that nobody knows, anywhere and with any value, is one warning and changes nothing (12.2)", () => {
  const plain = parse(stringify(GOOD));
  const unknown = fc.string({ minLength: 1, maxLength: 8 }).map((text) => `x${text.replaceAll(".", "")}`);
  fc.assert(
    fc.property(fc.constantFrom(...BRANCHES), unknown, fc.jsonValue(), (branch, name, value) => {
      const path = branch === "" ? name : `${branch}.${name}`;
      const parsed = parse(stringify(withField(GOOD, path, value), { version: "1.1" }));
      assert.deepEqual(parsed.settings?.kubeProxy, plain.settings?.kubeProxy);
      const found = parsed.problems.filter(({ code }) => code === "unknown_field");
      assert.deepEqual(
        found.map((problem) => problem.name),
        [path],
      );
      assert.ok(found[0]?.line !== null);
    }),
  );
});

test("A known field with any value gives settings, or an error that names that field", () => {
  fc.assert(
    fc.property(fc.constantFrom(...PATHS), fc.jsonValue(), (path, value) => {
      const { settings, problems } = parse(stringify(withField(HEAD, path, value), { version: "1.1" }));
      const errors = problems.filter(({ severity }) => severity === "error");
      assert.equal(settings === null, errors.length > 0);
      for (const { name } of errors) {
        // detectLocalMode asks for another field, and a period is held against the other.
        assert.equal(name?.split(".")[0]?.replace(/Mode$/, ""), path.split(".")[0]?.replace(/Mode$/, ""));
      }
    }),
  );
});

test("Any text gives settings or an error, and never throws", () => {
  fc.assert(
    fc.property(fc.string({ unit: "binary", maxLength: 60 }), fc.boolean(), (text, headed) => {
      const { settings, problems } = parse(headed ? `${stringify(HEAD)}${text}` : text);
      assert.ok(settings !== null || problems.some(({ severity }) => severity === "error"));
    }),
  );
});

test("Aliases that blow up are an error of the field, not of the agent", () => {
  const levels = Array.from(
    { length: 9 },
    (_, i) => `x${i + 1}: &a${i + 1} [${Array(9).fill(`*a${i}`).join(", ")}]`,
  );
  const text = `${stringify(HEAD)}x0: &a0 [a, a]\n${levels.join("\n")}\nnodePortAddresses: *a9\n`;
  const { settings, problems } = parse(text);
  assert.equal(settings, null);
  assert.deepEqual(
    problems.filter(({ severity }) => severity === "error").map(({ name }) => name),
    ["nodePortAddresses"],
  );
});
