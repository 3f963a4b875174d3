// SPDX-License-Identifier: Apache-2.0
/** Who we are and where the server is: contract item 1 of the source, and every other way into a cluster. */
import assert from "node:assert/strict";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { type AddressInfo, connect } from "node:net";
import { describe, it, type TestContext } from "node:test";
import { ApiError } from "../../src/source/kube/errors.js";
import { type KubeConfigOptions, loadKubeConnection } from "../../src/source/kube/kubeconfig.js";
import { createTransport, type Transport } from "../../src/source/kube/transport.js";
import { CertificateAuthority } from "../support/apiserver/certificates.js";
import { FakeApi } from "../support/apiserver/fake-api.js";
import { FakeTimers } from "./support/fake-timers.js";
import { type Line, Rig } from "./support/rig.js";

const LIST = { path: "/api/v1/services", headersMs: 10_000, idleMs: 10_000, totalMs: 10_000 };

interface Access {
  readonly transport: Transport;
  readonly timers: FakeTimers;
  readonly lines: Line[];
  readonly server: string;
  readonly proxy: string | null;
  readonly inCluster: boolean;
  list(): Promise<unknown>;
}

async function accessBy(t: TestContext, options: Partial<KubeConfigOptions>): Promise<Access> {
  const timers = new FakeTimers(Date.now());
  const lines: Line[] = [];
  const keep =
    (level: Line["level"]) =>
    (fields: Line["fields"], message: string): void =>
      void lines.push({ level, message, fields });
  const logger = { debug: keep("debug"), info: keep("info"), warn: keep("warn"), error: keep("error") };
  const connection = await loadKubeConnection(
    { kubeconfig: "", master: "", env: {}, ...options },
    { logger, timers },
  );
  const transport = createTransport(connection, { version: "0.1.0", timers });
  t.after(() => transport.close());
  const list = (): Promise<unknown> => transport.json(LIST, new AbortController().signal);
  const { server, proxy, inCluster } = connection;
  return { transport, timers, lines, server, proxy, inCluster, list };
}

async function server(t: TestContext): Promise<FakeApi> {
  const api = await FakeApi.start({ bookmarkMs: 0 });
  t.after(() => api.close());
  return api;
}

const last = (api: FakeApi): string => api.requests.at(-1)?.headers.authorization ?? "";

describe("kubeadm's kubeconfig.conf (contract 1)", () => {
  it("authenticates by its tokenFile, a line's end in the file or not", async (t) => {
    const api = await server(t);
    api.writeTokenFile("\n");
    const access = await accessBy(t, { kubeconfig: api.kubeconfig({ tokenFile: true }) });
    await access.list();
    assert.equal(last(api), `Bearer ${api.token}`);
    assert.match(
      String(api.requests[0]?.headers["user-agent"]),
      /^portolan\/0\.1\.0 \(linux\/(amd64|arm64)\)$/,
    );
    assert.equal(api.requests[0]?.headers.accept, "application/json");
    assert.equal(access.inCluster, false);
  });

  it("uses a rotated token within a minute, without a 401 in between", async (t) => {
    const rig = await Rig.make(t);
    await rig.start();
    await rig.watching();
    const token = rig.api.rotateToken({ keepOld: true, trailing: "\n" });
    await rig.timers.advance(60_000);
    rig.api.closeWatches();
    const again = await rig.api.request({ resource: "services", verb: "watch" }, 2);
    assert.equal(again.headers.authorization, `Bearer ${token}`);
    assert.equal(rig.codes.includes("401"), false);
  });

  it("keeps the last token while the file is being replaced", async (t) => {
    const api = await server(t);
    const path = `${api.directory}/other-token`;
    writeFileSync(path, api.token);
    const access = await accessBy(t, { kubeconfig: api.kubeconfig({ tokenFile: path }) });
    await access.list();
    writeFileSync(path, "");
    await access.timers.advance(60_000);
    await access.list();
    assert.equal(last(api), `Bearer ${api.token}`);
  });

  it("uses one connection for requests in turn, and takes the token in the file before one beside it", async (t) => {
    const api = await server(t);
    const path = `${api.directory}/both`;
    const text = readFileSync(api.kubeconfig({ tokenFile: true }), "utf8");
    writeFileSync(path, text.replace("tokenFile:", "token: wrong\n    tokenFile:"));
    const access = await accessBy(t, { kubeconfig: path });
    for (let i = 0; i < 5; i += 1) await access.list();
    assert.equal(api.connections.total, 1);
  });
});

describe("Credentials", () => {
  it("are a client certificate, from files or in the kubeconfig, read anew for new connections", async (t) => {
    const api = await server(t);
    for (const form of ["files", "data"] as const) {
      const access = await accessBy(t, {
        kubeconfig: api.kubeconfig({ clientCertificate: form, authority: "data" }),
      });
      await access.list();
      assert.equal(api.requests.at(-1)?.user, "system:kube-proxy");
    }
    const pair = api.authority.client("someone", ["system:node-proxier"]);
    const path = api.kubeconfig({ clientCertificate: "files" });
    const text = readFileSync(path, "utf8");
    const [certificate, key] = [`${api.directory}/now.crt`, `${api.directory}/now.key`];
    const { clientCertificate } = api;
    writeFileSync(certificate, readFileSync(clientCertificate.certificate));
    writeFileSync(key, readFileSync(clientCertificate.key));
    writeFileSync(
      path,
      text.replace(clientCertificate.certificate, certificate).replace(clientCertificate.key, key),
    );
    const access = await accessBy(t, { kubeconfig: path });
    await access.list();
    writeFileSync(certificate, readFileSync(pair.certificate));
    writeFileSync(key, readFileSync(pair.key));
    await access.list();
    assert.equal(api.requests.at(-1)?.user, "someone");
    await api.until("the old connection is gone", () => api.connections.open <= 3);
  });

  it("from an exec plugin are asked for once by requests at the same time, and again when they have expired", async (t) => {
    const api = await server(t);
    const calls = `${api.directory}/calls`;
    const script = `${api.directory}/plugin.sh`;
    const credential = (seconds: number): string =>
      JSON.stringify({
        apiVersion: "client.authentication.k8s.io/v1",
        kind: "ExecCredential",
        status: {
          token: api.token,
          expirationTimestamp: new Date(Date.now() + seconds * 1000).toISOString(),
        },
      });
    writeFileSync(script, `echo "$KUBERNETES_EXEC_INFO $EXTRA" >> ${calls}; cat ${api.directory}/credential`);
    writeFileSync(`${api.directory}/credential`, credential(3_600));
    const exec = { command: "sh", args: [script], env: { EXTRA: "given" } };
    const access = await accessBy(t, { kubeconfig: api.kubeconfig({ exec }) });
    await Promise.all([access.list(), access.list(), access.list()]);
    assert.equal(last(api), `Bearer ${api.token}`);
    const lines = (): string[] => readFileSync(calls, "utf8").trim().split("\n");
    assert.equal(lines().length, 1);
    assert.match(String(lines()[0]), /"kind":"ExecCredential".*"interactive":false.* given$/);
    await access.timers.advance(3_600_000);
    await access.list();
    assert.equal(lines().length, 2);
    // A token that the server does not take is thrown away.
    writeFileSync(`${api.directory}/credential`, credential(36_000));
    await access.list();
    const used = lines().length;
    api.rotateToken();
    writeFileSync(`${api.directory}/credential`, credential(36_000));
    await access.list();
    assert.equal(lines().length, used + 1);
  });

  it("that an exec plugin fails to give are an error that names it, not an end", async (t) => {
    const api = await server(t);
    for (const [args, text] of [
      [["-c", "echo nobody home >&2; exit 3"], /the exec plugin sh failed/],
      [["-c", "echo hello"], /printed no JSON/],
      [["-c", "echo '{}'"], /no client\.authentication\.k8s\.io\/v1 ExecCredential/],
    ] as const) {
      const access = await accessBy(t, { kubeconfig: api.kubeconfig({ exec: { command: "sh", args } }) });
      await assert.rejects(
        access.list(),
        (error) => error instanceof ApiError && error.code === "credentials" && text.test(error.message),
      );
    }
    assert.equal(api.requests.length, 0);
  });

  it("of a certificate that somebody else has signed are no server's", async (t) => {
    const api = await server(t);
    const other = new CertificateAuthority(api.directory, "other-ca");
    const path = api.kubeconfig({ tokenFile: true });
    writeFileSync(path, readFileSync(path, "utf8").replace(api.authority.certificate, other.certificate));
    const access = await accessBy(t, { kubeconfig: path });
    await assert.rejects(access.list(), /unable to verify|self.signed|certificate/i);
    assert.equal(api.requests.length, 0, "no token is sent to a stranger");
  });
});

describe("Ways to the server", () => {
  it("is into the cluster without a kubeconfig, with a warning that it leads through what is programmed here", async (t) => {
    const api = await server(t);
    const root = `${api.directory}/root`;
    const directory = `${root}/var/run/secrets/kubernetes.io/serviceaccount`;
    mkdirSync(directory, { recursive: true });
    writeFileSync(`${directory}/token`, `${api.token}\n`);
    writeFileSync(`${directory}/ca.crt`, api.authority.pem);
    const env = { KUBERNETES_SERVICE_HOST: "127.0.0.1", KUBERNETES_SERVICE_PORT: String(api.port) };
    const access = await accessBy(t, { root, env });
    await access.list();
    assert.equal(access.inCluster, true);
    assert.equal(access.server, api.url);
    assert.equal(access.lines[0]?.fields.code, "api_server_by_cluster_ip");
    assert.equal(access.lines[0]?.level, "warn");

    // --master alone: the same account, no such warning.
    const direct = await accessBy(t, { root, master: api.url });
    await direct.list();
    assert.equal(direct.inCluster, false);
    assert.deepEqual(direct.lines, []);
  });

  it("is --master before the server of the kubeconfig", async (t) => {
    const api = await server(t);
    const kubeconfig = api.kubeconfig({ tokenFile: true, server: "https://192.0.2.1:6443" });
    const access = await accessBy(t, { kubeconfig, master: `${api.url}/` });
    await access.list();
    assert.equal(access.server, api.url);
  });

  it("is a proxy: of the kubeconfig, or of HTTPS_PROXY unless NO_PROXY names the server", async (t) => {
    const api = await server(t);
    const seen: string[] = [];
    const proxy = createServer();
    proxy.on("connect", (request, socket) => {
      seen.push(`${request.url} ${request.headers["proxy-authorization"] ?? ""}`.trim());
      const upstream = connect(api.port, "127.0.0.1", () => {
        socket.write("HTTP/1.1 200 OK\r\n\r\n");
        socket.pipe(upstream).pipe(socket);
      });
      socket.on("error", () => upstream.destroy());
      upstream.on("error", () => socket.destroy());
    });
    await new Promise<void>((resolve) => proxy.listen(0, "127.0.0.1", resolve));
    t.after(() => proxy.close());
    const url = `http://127.0.0.1:${(proxy.address() as AddressInfo).port}`;
    const named = { tokenFile: true, server: "https://kubernetes.default.svc:6443" } as const;

    const own = await accessBy(t, {
      kubeconfig: api.kubeconfig({ ...named, proxyUrl: url.replace("//", "//me:secret@") }),
    });
    await own.list();
    await own.list();
    assert.deepEqual(seen, ["kubernetes.default.svc:6443 Basic bWU6c2VjcmV0"], "one connection, kept");
    assert.equal(own.proxy, `${url}/`, "without the password");

    const kubeconfig = api.kubeconfig(named);
    const byEnvironment = await accessBy(t, { kubeconfig, env: { HTTPS_PROXY: url } });
    await byEnvironment.list();
    assert.equal(seen.length, 2);
    for (const NO_PROXY of [".svc", "kubernetes.default.svc", "default.svc:6443", "*"]) {
      const around = await accessBy(t, { kubeconfig, env: { HTTPS_PROXY: url, NO_PROXY } });
      assert.equal(around.proxy, null, NO_PROXY);
    }
    for (const NO_PROXY of ["kubernetes.default.svc:443", "other.svc", ""]) {
      const through = await accessBy(t, { kubeconfig, env: { https_proxy: url, NO_PROXY } });
      assert.equal(through.proxy, `${url}/`, NO_PROXY);
    }
    const local = await accessBy(t, {
      kubeconfig: api.kubeconfig({ tokenFile: true }),
      env: { HTTPS_PROXY: url },
    });
    assert.equal(local.proxy, null, "127.0.0.1 never goes through a proxy");
  });
});

describe("loadKubeConnection() refuses", () => {
  const refusals: readonly [string, string, (text: string) => string, RegExp][] = [
    [
      "a current context that is not there",
      "kubeconfig_incomplete",
      (text) => text.replace("current-context: default", "current-context: other"),
      /no context "other"/,
    ],
    [
      "no current context",
      "kubeconfig_incomplete",
      (text) => text.replace("current-context: default", ""),
      /no current-context/,
    ],
    [
      "a cluster that is not there",
      "kubeconfig_incomplete",
      (text) => text.replace("    cluster: default\n", "    cluster: gone\n"),
      /no cluster "gone"/,
    ],
    [
      "a user that is not there",
      "kubeconfig_incomplete",
      (text) => text.replace("user: default", "user: nobody"),
      /no user "nobody"/,
    ],
    [
      "a CA file that is not there",
      "kubeconfig_file",
      (text) => text.replace(/certificate-authority: .*/, "certificate-authority: /no/ca.crt"),
      /cannot read \/no\/ca\.crt, the kubeconfig's certificate-authority/,
    ],
    [
      "a token file that is not there",
      "kubeconfig_file",
      (text) => text.replace(/tokenFile: .*/, "tokenFile: token/none"),
      /token\/none, the kubeconfig's tokenFile/,
    ],
    [
      "a server that is none",
      "kubeconfig_server",
      (text) => text.replace(/server: .*/, "server: ftp://x"),
      /is no address of an API server/,
    ],
    ["text that is no YAML", "kubeconfig_invalid", () => "a: [", /cannot be used/],
  ];
  for (const [what, code, change, message] of refusals) {
    it(`${what}, and names it`, async (t) => {
      const api = await server(t);
      const kubeconfig = api.kubeconfig({ tokenFile: true });
      writeFileSync(kubeconfig, change(readFileSync(kubeconfig, "utf8")));
      await assert.rejects(accessBy(t, { kubeconfig }), (error) => {
        assert.equal((error as ApiError).name, "KubeConfigError");
        assert.equal((error as { code?: unknown }).code, code);
        assert.match((error as Error).message, message);
        return true;
      });
    });
  }

  it("a file that is not there, and no pod around", async (t) => {
    await assert.rejects(
      accessBy(t, { kubeconfig: "/no/such/kubeconfig" }),
      /cannot read the kubeconfig \/no\/such\/kubeconfig/,
    );
    await assert.rejects(accessBy(t, { root: "/no/such/root" }), /no kubeconfig is given/);
  });
});
