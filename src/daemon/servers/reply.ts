// SPDX-License-Identifier: Apache-2.0
/** An HTTP answer as a value, so that what a server says can be tested without one. */
export interface Reply {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
}

export function plainText(status: number, body: string): Reply {
  return {
    status,
    headers: { "Content-Type": "text/plain; charset=utf-8", "X-Content-Type-Options": "nosniff" },
    body,
  };
}

/** With the reason, when there is more to say than that nothing is here. */
export function notFound(reason = "404 page not found"): Reply {
  return plainText(404, `${reason}\n`);
}

export function json(body: unknown): Reply {
  return {
    status: 200,
    headers: { "Content-Type": "application/json", "X-Content-Type-Options": "nosniff" },
    body: JSON.stringify(body),
  };
}
