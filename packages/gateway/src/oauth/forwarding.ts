// One request to the OAuth server, and the way to oidc-provider: it gets requests only through here,
// sanitized.

import type { IncomingMessage, ServerResponse } from "node:http";
import type { Provider } from "oidc-provider";
import { sanitizeRequest } from "./node-http.ts";

export interface OAuthRequest {
  method: string;
  path: string;
  /** With its question mark, or empty. */
  query: string;
  original: IncomingMessage;
  response: ServerResponse;
  /** The client's address. */
  address: string;
  /** Read whole for POST; empty for other methods. */
  body: Buffer;
}

type Changes = Partial<{ url: string; body: Buffer }>;

export interface Forwarding {
  /** The provider of the newest signing key. */
  provider(): Promise<Provider>;
  /** The request as oidc-provider may see it. */
  sanitize(request: OAuthRequest, changes?: Changes): IncomingMessage;
  /** Lets oidc-provider answer the request. */
  forward(request: OAuthRequest, changes?: Changes): Promise<void>;
}

export function createForwarding(issuer: string, provider: () => Promise<Provider>): Forwarding {
  const origin = new URL(issuer);
  const sanitize = ({ original, path, query, body, address }: OAuthRequest, changes: Changes = {}) =>
    sanitizeRequest(original, { origin, address, url: `${path}${query}`, body, ...changes });
  return {
    provider,
    sanitize,
    async forward(request, changes) {
      const current = await provider();
      await current.callback()(sanitize(request, changes), request.response);
    },
  };
}

export function isRead(method: string): boolean {
  return method === "GET" || method === "HEAD";
}
