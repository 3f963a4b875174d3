// SPDX-License-Identifier: Apache-2.0
/** A certificate authority of a test's own, made with openssl when it starts. Nothing of it outlives the directory. */
import { execFileSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";

/** Paths of PEM files. */
export interface KeyPair {
  readonly certificate: string;
  readonly key: string;
}

const DAYS = "2";

export class CertificateAuthority {
  readonly directory: string;
  /** Path of the authority's certificate. */
  readonly certificate: string;
  readonly #key: string;

  constructor(directory: string, name = "portolan-test-ca") {
    this.directory = directory;
    this.certificate = `${directory}/${name}.crt`;
    this.#key = `${directory}/${name}.key`;
    make([...newKey(this.#key), "-out", this.certificate, "-subj", `/CN=${name}`]);
  }

  /** The certificate as text. */
  get pem(): string {
    return readFileSync(this.certificate, "utf8");
  }

  /** A server's certificate. `names`: addresses and DNS names that it is good for. */
  server(names: readonly string[], file = "apiserver"): KeyPair {
    const alternative = names.map((name) => `${/^[\d.]+$|:/.test(name) ? "IP" : "DNS"}:${name}`).join(",");
    return this.#issue(file, "/CN=kube-apiserver", "serverAuth", [`subjectAltName=${alternative}`]);
  }

  /** A user's certificate, as Kubernetes reads it: CN is the user, O are the groups. */
  client(user: string, groups: readonly string[] = []): KeyPair {
    const subject = [...groups.map((group) => `/O=${group}`), `/CN=${user}`].join("");
    return this.#issue(`client-${user.replace(/[^a-z0-9-]/g, "-")}`, subject, "clientAuth", []);
  }

  #issue(file: string, subject: string, usage: string, extensions: readonly string[]): KeyPair {
    const pair = { certificate: `${this.directory}/${file}.crt`, key: `${this.directory}/${file}.key` };
    make([
      ...newKey(pair.key),
      ...["-CA", this.certificate, "-CAkey", this.#key, "-out", pair.certificate, "-subj", subject],
      ...["basicConstraints=critical,CA:FALSE", `extendedKeyUsage=${usage}`, ...extensions].flatMap(
        (text) => ["-addext", text],
      ),
    ]);
    return pair;
  }
}

/** A key pair for signing service account tokens, as kube-apiserver wants it. */
export function signingKey(directory: string): { readonly key: string; readonly publicKey: string } {
  const files = { key: `${directory}/sa.key`, publicKey: `${directory}/sa.pub` };
  const key = execFileSync("openssl", ["genrsa", "2048"], { stdio: ["ignore", "pipe", "pipe"] });
  writeFileSync(files.key, key);
  writeFileSync(files.publicKey, execFileSync("openssl", ["rsa", "-pubout"], { input: key, stdio: "pipe" }));
  return files;
}

function newKey(file: string): string[] {
  return ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", file];
}

function make(args: readonly string[]): void {
  execFileSync("openssl", ["req", "-x509", "-days", DAYS, ...args], { stdio: ["ignore", "ignore", "pipe"] });
}
