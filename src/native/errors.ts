// SPDX-License-Identifier: Apache-2.0
/** Errors of the native library: what its error buffer says, as a typed error with a hint. */
import { getSystemErrorName } from "node:util";
import { AppError } from "../util/errors.js";

const C_CODES = [
  "E_NATIVE_KERNEL",
  "E_NATIVE_ARGUMENT",
  "E_NATIVE_OBJECT",
  "E_NATIVE_VERIFIER",
  "E_NATIVE_BPFFS",
  "E_NATIVE_MAP_SPEC",
  "E_NATIVE_PINS",
  "E_NATIVE_NO_DEVICE",
  "E_NATIVE_NO_TCX",
  "E_NATIVE_INGRESS_QDISC",
  "E_NATIVE_FOREIGN_FILTER",
  "E_NATIVE_FOREIGN_LINK",
  "E_NATIVE_XDP_BUSY",
  "E_NATIVE_XDP_NONE",
  "E_NATIVE_CGROUP",
  "E_NATIVE_CGROUP_BUSY",
] as const;

/** E_NATIVE_LIBRARY: it cannot be loaded at all. The others are the PTL_E_* of portolan.h. */
export type NativeErrorCode = (typeof C_CODES)[number] | "E_NATIVE_LIBRARY";

const HINTS: Readonly<Partial<Record<NativeErrorCode, string>>> = {
  E_NATIVE_LIBRARY: "Run `make build`, or set PORTOLAN_BUILD_DIR to the directory that holds libportolan.so",
  E_NATIVE_OBJECT: "Run `make build`; the object and this program must come from one build",
  E_NATIVE_VERIFIER: "This kernel does not accept the program: report the whole log together with `uname -r`",
  E_NATIVE_BPFFS: "Mount one: mount -t bpf bpf /sys/fs/bpf",
  E_NATIVE_MAP_SPEC:
    "An agent with another version or other sizes made these pins: use its settings, or remove them with `portolan cleanup`",
  E_NATIVE_PINS:
    "An agent that runs makes its pins again, and so does `portolan verify --repair`; `portolan maps` shows which are missing",
  E_NATIVE_NO_TCX: "Use clsact, or a kernel from Linux 6.6 on",
  E_NATIVE_INGRESS_QDISC:
    "clsact and `ingress` exclude each other: remove it (tc qdisc del dev NAME ingress), or use a kernel with tcx (Linux 6.6)",
  E_NATIVE_FOREIGN_FILTER:
    "See `tc filter show dev NAME ingress`; preference 10 with handle 0x50544c is ours",
  E_NATIVE_FOREIGN_LINK:
    "Run the agent in the network namespace of the one before it, or give it its own --bpf-root",
  E_NATIVE_XDP_BUSY:
    "An interface has room for one XDP program: take it off (ip link set dev NAME xdp off, or its owner's way), or leave this one out with --xdp=off",
  E_NATIVE_XDP_NONE: "Use --xdp=auto, which leaves such interfaces to tc",
  E_NATIVE_CGROUP:
    "Name a directory of a mounted cgroup v2 file system: usually /sys/fs/cgroup, or /sys/fs/cgroup/unified on a hybrid host",
  E_NATIVE_CGROUP_BUSY:
    "See `bpftool cgroup tree`: whoever is there must attach with BPF_F_ALLOW_MULTI, or --socket-lb=off",
};

const ERRNO_HINTS: Readonly<Record<string, string>> = {
  EPERM: "Run as root: loading BPF needs CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON",
  EACCES: "Run as root: loading BPF needs CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON",
  ENOMEM: "The kernel refused the memory: lower the map sizes or raise RLIMIT_MEMLOCK",
};

export interface NativeErrorDetails {
  /** Positive. 0: there is none. */
  readonly errno: number;
  /** What was being done: "open", "attach" … */
  readonly op: string;
  /** To what: a path, a map, an interface. */
  readonly object: string;
  /** The verifier's or libbpf's words, possibly cut at the front; null: none. */
  readonly verifierLog: string | null;
}

export class NativeError extends AppError<NativeErrorCode> implements NativeErrorDetails {
  readonly errno: number;
  readonly op: string;
  readonly object: string;
  readonly verifierLog: string | null;

  constructor(code: NativeErrorCode, message: string, details: NativeErrorDetails) {
    const name = errnoName(details.errno);
    const hint = (code === "E_NATIVE_KERNEL" ? undefined : HINTS[code]) ?? ERRNO_HINTS[name] ?? HINTS[code];
    const fields = { errno: name, op: details.op, object: details.object };
    super(code, message, hint === undefined ? { fields } : { fields, hint });
    this.name = "NativeError";
    this.errno = details.errno;
    this.op = details.op;
    this.object = details.object;
    this.verifierLog = details.verifierLog;
  }
}

/** "ENOENT" for 2; "0" and unknown numbers as they are. */
export function errnoName(errno: number): string {
  if (errno <= 0) return "0";
  if (errno === 524) return "ENOTSUPP";
  try {
    return getSystemErrorName(-errno);
  } catch {
    return `${errno}`;
  }
}

function isCode(text: string): text is NativeErrorCode {
  return (C_CODES as readonly string[]).includes(text);
}

/** From the error buffer that a call filled, "CODE\top\tobject\nmessage[\nlog]", and its negative result. */
export function nativeError(symbol: string, result: number, buffer: Uint8Array): NativeError {
  const end = buffer.indexOf(0);
  const text = Buffer.from(buffer.subarray(0, end < 0 ? buffer.length : end)).toString("utf8");
  const [head = "", message = "", ...log] = text.split("\n");
  const [code = "", op = symbol, object = ""] = head.split("\t");
  const verifierLog = log.length > 0 ? log.join("\n") : null;
  const details = { errno: -result, op, object, verifierLog };
  if (!isCode(code))
    return new NativeError("E_NATIVE_KERNEL", `${symbol}: ${errnoName(-result)}`, { ...details, op: symbol });
  return new NativeError(code, message, details);
}

/** The error of one interface in a batched attach. */
export function attachError(code: string, errno: number, ifindex: number): NativeError {
  const known = isCode(code) ? code : "E_NATIVE_KERNEL";
  const reasons: Readonly<Partial<Record<NativeErrorCode, string>>> = {
    E_NATIVE_INGRESS_QDISC: "a qdisc `ingress` is in the way of clsact",
    E_NATIVE_FOREIGN_FILTER: "another program's filter has our preference and handle",
    E_NATIVE_FOREIGN_LINK: "the pin of its link serves an interface of another network namespace",
    E_NATIVE_NO_DEVICE: "there is no such interface",
    E_NATIVE_NO_TCX: "this kernel has no tcx",
    E_NATIVE_OBJECT: "the object lacks the program for this role",
  };
  const details = { errno, op: "attach", object: `ifindex ${ifindex}`, verifierLog: null };
  const reason = reasons[known] ?? errnoName(errno);
  return new NativeError(known, `Cannot attach to interface ${ifindex}: ${reason}`, details);
}
