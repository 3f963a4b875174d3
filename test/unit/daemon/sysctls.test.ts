// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { test } from "node:test";
import type { ConntrackConfiguration } from "../../../src/config/kube-proxy-configuration.js";
import { setOomScore } from "../../../src/daemon/oom-score.js";
import { conntrackMax, countCpus, type KernelFiles, setConntrack } from "../../../src/daemon/sysctls.js";
import type { AppError } from "../../../src/util/errors.js";
import { type Logger, silentLogger } from "../../../src/util/log.js";

const CONNTRACK = "/proc/sys/net/netfilter/nf_conntrack";
const MAX = `${CONNTRACK}_max`;
const HASH_SIZE = "/sys/module/nf_conntrack/parameters/hashsize";
const CPUS = "/sys/devices/system/cpu/online";

const NOTHING: ConntrackConfiguration = {
  maxPerCore: 0,
  min: 0,
  tcpEstablishedTimeout: 0,
  tcpCloseWaitTimeout: 0,
  tcpBeLiberal: false,
  udpTimeout: 0,
  udpStreamTimeout: 0,
};

/** A kernel of 4 CPUs. `refuse`: what a write of these files fails with. */
function kernel(given: Readonly<Record<string, string>> = {}, refuse: Readonly<Record<string, string>> = {}) {
  const texts = new Map(
    Object.entries({ [CPUS]: "0-3\n", [MAX]: "65536\n", [HASH_SIZE]: "16384\n", ...given }),
  );
  const writes: [path: string, text: string][] = [];
  const files: KernelFiles = {
    read: (path) => texts.get(path) ?? null,
    write: (path, text) => {
      const code = refuse[path];
      if (code !== undefined) throw Object.assign(new Error(`${code}: refused`), { code });
      writes.push([path, text]);
      texts.set(path, text);
    },
  };
  return { files, writes };
}

test("conntrackMax() is the larger of min and maxPerCore x CPUs, which many CPUs raise to 1,048,576 at most (14.1)", () => {
  assert.equal(conntrackMax({ maxPerCore: 32_768, min: 131_072 }, 2), 131_072);
  assert.equal(conntrackMax({ maxPerCore: 32_768, min: 131_072 }, 8), 262_144);
  assert.equal(conntrackMax({ maxPerCore: 32_768, min: 131_072 }, 64), 1_048_576);
  assert.equal(conntrackMax({ maxPerCore: 32_768, min: 2_000_000 }, 64), 2_000_000);
  assert.equal(conntrackMax({ maxPerCore: 0, min: 131_072 }, 8), 0, "left alone");
});

test("countCpus() counts a list of the kernel's", () => {
  assert.equal(countCpus("0-3\n"), 4);
  assert.equal(countCpus("0,2-3,8"), 4);
  assert.equal(countCpus("0"), 1);
  assert.equal(countCpus(""), null);
});

test("setConntrack() writes what is asked for and differs, and lets the hash table grow only (14.1, 14.2)", () => {
  const { files, writes } = kernel({
    [`${CONNTRACK}_tcp_timeout_established`]: "432000\n",
    [`${CONNTRACK}_tcp_timeout_close_wait`]: "3600\n",
  });
  const config = {
    ...NOTHING,
    maxPerCore: 32_768,
    min: 131_072,
    tcpEstablishedTimeout: 86_400_000,
    tcpCloseWaitTimeout: 3_600_000,
    udpStreamTimeout: 1_500,
    tcpBeLiberal: true,
  };
  setConntrack(config, { log: silentLogger, files });
  assert.deepEqual(writes, [
    [MAX, "131072"],
    [HASH_SIZE, "32768"],
    [`${CONNTRACK}_tcp_timeout_established`, "86400"],
    [`${CONNTRACK}_udp_timeout_stream`, "1"],
    [`${CONNTRACK}_tcp_be_liberal`, "1"],
  ]);
  setConntrack(config, { log: silentLogger, files });
  assert.equal(writes.length, 5, "all is as it should be");
});

test("setConntrack() sets nf_conntrack_max to the computed number, also where that is less (14.5)", () => {
  const { files, writes } = kernel({ [MAX]: "500000\n", [HASH_SIZE]: "262144\n" });
  setConntrack({ ...NOTHING, maxPerCore: 32_768, min: 131_072 }, { log: silentLogger, files });
  assert.deepEqual(writes, [[MAX, "131072"]]);
});

test("setConntrack() leaves alone what is 0 or false, and reads nothing for it", () => {
  const files: KernelFiles = {
    read: (path) => (path === CPUS ? "0" : assert.fail(path)),
    write: assert.fail,
  };
  setConntrack(NOTHING, { log: silentLogger, files });
});

test("setConntrack() names the file that refuses, and fails (14.2)", () => {
  const { files } = kernel({}, { [MAX]: "EACCES" });
  assert.throws(
    () => setConntrack({ ...NOTHING, maxPerCore: 32_768 }, { log: silentLogger, files }),
    (error: AppError) => {
      assert.equal(error.code, "E_SYSCTL");
      assert.match(error.message, /nf_conntrack_max cannot be set to 131072: EACCES/);
      return true;
    },
  );
});

test("setConntrack() goes on with a read-only /sys, and tells (14.1)", () => {
  const { files, writes } = kernel({}, { [HASH_SIZE]: "EROFS" });
  const told: string[] = [];
  const config = { ...NOTHING, maxPerCore: 32_768, tcpBeLiberal: true };
  setConntrack(config, { log: silentLogger, files, onReadOnlySys: (text) => told.push(text) });
  assert.equal(told.length, 1);
  assert.match(told[0] ?? "", /\/sys is read-only: .* 16384 buckets instead of 32768/);
  assert.equal(writes.at(-1)?.[0], `${CONNTRACK}_tcp_be_liberal`);
});

test("setConntrack() does nothing where the kernel tracks no connections", () => {
  const files: KernelFiles = { read: () => null, write: assert.fail };
  setConntrack({ ...NOTHING, maxPerCore: 32_768 }, { log: silentLogger, files });
});

test("setOomScore() writes what differs; a refusal is said and ignored", () => {
  const SCORE = "/proc/self/oom_score_adj";
  const { files, writes } = kernel({ [SCORE]: "0\n" });
  setOomScore(-999, silentLogger, files);
  setOomScore(-999, silentLogger, files);
  assert.deepEqual(writes, [[SCORE, "-999"]]);
  const told: unknown[] = [];
  const log: Logger = { ...silentLogger, info: (fields) => told.push(fields.score) };
  setOomScore(-999, log, kernel({}, { [SCORE]: "EACCES" }).files);
  assert.deepEqual(told, [-999]);
});
