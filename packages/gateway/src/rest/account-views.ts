// Accounts, keys and API tokens as the REST API shows and takes them.

import { SCOPES } from "@formation-mcp/auth";
import type { Account, ApiToken } from "@formation-mcp/auth/authority";
import { FormationError } from "@formation-mcp/contract";
import { z } from "zod";

export const scope = z.enum(SCOPES);
/** A key to be added. */
export const newKey = z.strictObject({
  id: z.string().min(1).max(200).optional().describe("0x… (secp256k1) or key:<thumbprint>"),
  public_key: z.record(z.string(), z.unknown()).optional().describe("Instead: the public key as JWK"),
  label: z.string().max(100).optional(),
});
export const key = z.object({
  id: z.string(),
  kind: z.enum(["ed25519", "secp256k1"]),
  label: z.string().nullable(),
  created_at: z.string(),
});
export const account = z.object({
  user_id: z.string(),
  permissions: z.array(z.string()),
  keys: z.array(key),
  created_at: z.string(),
});

export function accountView(one: Account): z.output<typeof account> {
  return {
    user_id: one.owner,
    permissions: one.scopes,
    keys: one.keys.map(({ created_at, ...rest }) => ({ ...rest, created_at: iso(created_at) })),
    created_at: iso(one.created_at),
  };
}

/**
 * The key for the authority.
 * @throws FormationError `invalid` unless it has exactly one of `id` and `public_key`.
 */
export function keyOf(given: z.output<typeof newKey>): { id?: string; publicKey?: object; label?: string } {
  const { id, public_key, label } = given;
  if ((id === undefined) === (public_key === undefined)) {
    throw new FormationError("invalid", "Give either id or public_key.", { field: "id" });
  }
  return {
    ...(id === undefined ? {} : { id }),
    ...(public_key === undefined ? {} : { publicKey: public_key }),
    ...(label === undefined ? {} : { label }),
  };
}

export const apiToken = z.object({
  id: z.string(),
  name: z.string(),
  scopes: z.array(z.string()),
  bounds: z.record(z.string(), z.unknown()).nullable(),
  created_at: z.string(),
  expires_at: z.string().nullable(),
  last_used_at: z.string().nullable(),
});

export function tokenView(token: ApiToken): z.output<typeof apiToken> {
  const { created_at, expires_at, last_used_at } = token;
  return {
    id: token.id,
    name: token.name,
    scopes: token.scopes,
    bounds: token.bounds === null ? null : { ...token.bounds },
    created_at: iso(created_at),
    expires_at: expires_at === null ? null : iso(expires_at),
    last_used_at: last_used_at === null ? null : iso(last_used_at),
  };
}

/** A time in milliseconds since the epoch as ISO 8601. */
export function iso(time: number): string {
  return new Date(time).toISOString();
}

export function noSuch(what: string): FormationError {
  return new FormationError("not_found", `There is no such ${what}.`, { field: "id" });
}
