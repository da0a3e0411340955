// API tokens: for machines that can't sign in, with less than their owner may do.

import { FormationError } from "@formation-mcp/contract";
import type { Asker, Waiting } from "./authorized-wire.ts";
import { isObject } from "./errors.ts";
import { scopesOf } from "./session.ts";

export interface TokenRequest {
  name: string;
  /** All of the caller's by default. */
  scopes?: readonly string[];
  /** Only these instances, and only those that have these pairs in their metadata. */
  bounds?: { instances?: readonly string[]; metadata?: Readonly<Record<string, string>> };
  /** For ever by default, where the server allows it. */
  expires_in_seconds?: number;
}

/** A token as the server remembers it: never the token itself. Times are milliseconds since the epoch. */
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
  /** Makes a token and returns it: this once, it is shown never again. */
  create(request: TokenRequest, options?: Waiting): Promise<{ token: string; record: TokenRecord }>;
  list(options?: Waiting): Promise<TokenRecord[]>;
  /** @throws FormationError `not_found` if there is no such token */
  revoke(id: string, options?: Waiting): Promise<void>;
}

const PATH = "/api/tokens";

export function tokensOf(asker: Asker): Tokens {
  return {
    async create(request, { signal } = {}) {
      const said = await asker.send({ method: "POST", path: PATH, json: request, repeatable: false, signal });
      const { token, record, ...rest } = isObject(said) ? said : {};
      if (typeof token !== "string") {
        throw new FormationError("unavailable", `${asker.url} made a token and did not show it.`, {
          remedy: "Revoke it and make another.",
        });
      }
      return { token, record: recordOf(isObject(record) ? record : rest) };
    },
    async list({ signal } = {}) {
      const said = await asker.send({ method: "GET", path: PATH, repeatable: true, signal });
      const list = isObject(said) ? said["tokens"] : said;
      return Array.isArray(list) ? list.filter(isObject).map(recordOf) : [];
    },
    async revoke(id, { signal } = {}) {
      const path = `${PATH}/${encodeURIComponent(id)}`;
      await asker.send({ method: "DELETE", path, repeatable: true, signal });
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
