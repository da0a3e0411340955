// API tokens: for programs that cannot sign in, with fewer rights than their owner.

import { FormationError } from "@formation-mcp/contract";
import type { AuthorizedWire, RequestOptions } from "./authorized-wire.ts";
import { isObject } from "./errors.ts";
import { scopesOf } from "./sign-in.ts";

export interface TokenRequest {
  name: string;
  /** Default: all scopes of the caller. */
  scopes?: readonly string[];
  /** Restricts the token to these instances, and to instances with this metadata. */
  bounds?: { instances?: readonly string[]; metadata?: Readonly<Record<string, string>> };
  /** Default: the server decides. */
  expires_in_seconds?: number;
}

/** The record of a token, without the token itself. Times are milliseconds since the epoch. */
export interface TokenRecord {
  id: string;
  name: string;
  scopes: string[];
  bounds: Record<string, unknown> | null;
  created_at: number | null;
  expires_at: number | null;
  last_used_at: number | null;
}

export interface Tokens {
  /** Creates a token and returns it. The server never shows it again. */
  create(request: TokenRequest, options?: RequestOptions): Promise<{ token: string; record: TokenRecord }>;
  list(options?: RequestOptions): Promise<TokenRecord[]>;
  /** @throws FormationError `not_found` if there is no such token */
  revoke(id: string, options?: RequestOptions): Promise<void>;
}

const PATH = "/api/tokens";

export function createTokens(wire: AuthorizedWire): Tokens {
  return {
    async create(request, { signal } = {}) {
      const response = await wire.send({
        method: "POST",
        path: PATH,
        json: request,
        repeatable: false,
        signal,
      });
      const { token, record, ...rest } = isObject(response) ? response : {};
      if (typeof token !== "string") {
        throw new FormationError("unavailable", `${wire.url} made a token and did not show it.`, {
          remedy: "Revoke it and make another.",
        });
      }
      return { token, record: recordOf(isObject(record) ? record : rest) };
    },
    async list({ signal } = {}) {
      const response = await wire.send({ method: "GET", path: PATH, repeatable: true, signal });
      const list = isObject(response) ? response["tokens"] : response;
      return Array.isArray(list) ? list.filter(isObject).map(recordOf) : [];
    },
    async revoke(id, { signal } = {}) {
      const path = `${PATH}/${encodeURIComponent(id)}`;
      await wire.send({ method: "DELETE", path, repeatable: true, signal });
    },
  };
}

function recordOf(data: Record<string, unknown>): TokenRecord {
  const time = (name: string) => timeOf(data[name]);
  return {
    id: String(data["id"] ?? data["token_id"] ?? ""),
    name: String(data["name"] ?? ""),
    scopes: scopesOf(data["scopes"]),
    bounds: isObject(data["bounds"]) ? data["bounds"] : null,
    created_at: time("created_at"),
    expires_at: time("expires_at"),
    last_used_at: time("last_used_at"),
  };
}

function timeOf(value: unknown): number | null {
  const ms = typeof value === "string" ? Date.parse(value) : value;
  return typeof ms === "number" && Number.isFinite(ms) ? ms : null;
}
