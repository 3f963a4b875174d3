// SPDX-License-Identifier: Apache-2.0
/**
 * The image's last stage as a directory, made by its own COPY and `ln -s`, with the libraries and programs that its Debian packages
 * bring taken from this machine. What is not copied by the Dockerfile is not there.
 */
import { execFileSync } from "node:child_process";
import {
  cpSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  symlinkSync,
} from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { copiesOf, linksOf, readStages, type Stage } from "./dockerfile.js";

export const ROOT: string = fileURLToPath(new URL("../../..", import.meta.url));

/** Programs of the packages, and of every Debian. */
const PROGRAMS = [
  "/bin/sh",
  "/bin/grep",
  "/bin/mount",
  "/usr/bin/env",
  ...["iptables-nft", "iptables-legacy", "ip6tables-nft", "ip6tables-legacy"].flatMap((name) => [
    `/usr/sbin/${name}`,
    `/usr/sbin/${name}-save`,
    `/usr/sbin/${name}-restore`,
  ]),
  "/usr/sbin/nft",
];
/** For the test: what a container runtime does from outside. */
export const SETPRIV = "/usr/bin/setpriv";

export function lastStage(): Stage {
  return readStages(readFileSync(join(ROOT, "Dockerfile"), "utf8")).at(-1) as Stage;
}

/** The shared libraries of a file. */
export function librariesOf(file: string): readonly string[] {
  const text = execFileSync("ldd", [file], { encoding: "utf8" });
  if (text.includes("not found")) throw new Error(`${file} misses a library:\n${text}`);
  return [...text.matchAll(/(?:=> |^\s+)(\/\S+) \(/gm)].map(([, path = ""]) => path);
}

/** Every file of machine code that is copied into the image. */
export function binariesOf(directory: string): readonly string[] {
  return readdirSync(directory, { recursive: true, encoding: "utf8" })
    .filter((file) => /\.(node|so)$/.test(file))
    .map((file) => join(directory, file));
}

/** Makes the directory. */
export function rehearse(target: string): void {
  const stage = lastStage();
  const sources: Readonly<Record<string, string>> = {
    "/usr/local/bin/node": process.execPath,
    "/src/build/bundle": join(ROOT, "build/bundle"),
  };
  for (const {
    sources: [source = ""],
    target: path,
  } of copiesOf(stage)) {
    const real = sources[source];
    if (real === undefined) throw new Error(`the rehearsal does not know ${source}`);
    copy(real, join(target, path));
  }
  for (const { target: to, link } of linksOf(stage)) symlinkSync(to, join(target, link));
  for (const program of [...PROGRAMS, SETPRIV]) if (existsSync(program)) addProgram(target, program);
  const xtables = join(
    dirname(execFileSync("gcc", ["-print-file-name=libc.so.6"], { encoding: "utf8" }).trim()),
    "xtables",
  );
  if (existsSync(xtables)) copy(xtables, join(target, xtables));
  for (const file of [process.execPath, ...binariesOf(join(target, "opt"))])
    for (const library of librariesOf(file)) copy(library, join(target, library));
  for (const directory of ["proc", "sys", "dev", "run", "tmp", "host", "var/lib/kube-proxy", "etc"])
    mkdirSync(join(target, directory), { recursive: true });
}

/** With the links on the way to it, and its libraries. */
function addProgram(target: string, program: string): void {
  const path = join(target, program);
  if (existsSync(path)) return;
  if (lstatSync(program).isSymbolicLink()) {
    const to = readlinkSync(program);
    // "/etc/alternatives" and the like: what it leads to is what counts.
    const real = to.startsWith("/") ? to : join(dirname(program), to);
    addProgram(target, real);
    mkdirSync(dirname(path), { recursive: true });
    symlinkSync(to, path);
    return;
  }
  copy(program, path);
  for (const library of librariesOf(program)) copy(library, join(target, library));
}

function copy(from: string, to: string): void {
  if (existsSync(to)) return;
  mkdirSync(dirname(to), { recursive: true });
  cpSync(from, to, { recursive: true, dereference: true });
}
