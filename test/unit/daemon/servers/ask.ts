// SPDX-License-Identifier: Apache-2.0
import { type IncomingHttpHeaders, request } from "node:http";
import type { BindAddress } from "../../../../src/daemon/servers/bind-address.js";

export interface Answer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly body: string;
}

export interface Asking {
  readonly method?: string;
  readonly body?: string;
}

/** One request on a connection of its own. Rejects when nobody listens. */
export function ask(
  at: BindAddress | null,
  path: string,
  { method = "GET", body }: Asking = {},
): Promise<Answer> {
  if (at === null) throw new Error("the server does not listen");
  const { host, port } = at;
  return new Promise((resolve, reject) => {
    const sent = request({ host, port, path, method, agent: false, timeout: 120_000 }, (response) => {
      let text = "";
      response.setEncoding("utf8").on("data", (piece: string) => {
        text += piece;
      });
      response.on("end", () =>
        resolve({ status: response.statusCode ?? 0, headers: response.headers, body: text }),
      );
    });
    sent.on("error", reject).on("timeout", () => sent.destroy(new Error("no answer")));
    sent.end(body);
  });
}
