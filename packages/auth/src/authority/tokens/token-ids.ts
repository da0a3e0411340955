// The ids of access tokens tell their descent: `ses_F.a` belongs to session F, and `ses_F.a~b` was made with
// it. So every id under which a token may have been revoked can be read from the token's own id.

import type { Secrets } from "../storage/secrets.ts";

/** The client id of a token that no OAuth client asked for. */
export const OWN_CLIENT = "formation";

const MAX_ID_LENGTH = 512;
const OWN_ID = /^(ses|tok)_[0-9a-f]{32}/;
const OAUTH_SERVER_ID = /^[A-Za-z0-9_-]{16,128}(?:~[A-Za-z0-9_-]{16})*$/;

/** The parts of a token id. For `ses_F.a~b`: `root` is `ses_F.a`, and `family` is `ses_F`. */
export interface TokenIdParts {
  root: string;
  family: string;
  /** Whether the family has a form that this authority gives, rather than the OAuth server. */
  isOwn: boolean;
}

/** Splits a token id; null for a text that can be no token's id. */
export function parseTokenId(id: string): TokenIdParts | null {
  if (typeof id !== "string" || id.length > MAX_ID_LENGTH) return null;
  const [root = ""] = id.split("~");
  const [family = ""] = root.split(".");
  return { root, family, isOwn: OWN_ID.test(family) };
}

/** Whether an id has the form of the OAuth server's access tokens, or of tokens made with one. */
export function isOAuthServerTokenId(id: string): boolean {
  return OAUTH_SERVER_ID.test(id);
}

/** Every id under which a token can be revoked: its own, those of its ancestors, and its family's. */
export function revocableIds(jti: string, family: string | undefined): Set<string> {
  const ids = new Set<string>(family === undefined ? [] : [family]);
  const parts = jti.split("~");
  for (let length = 1; length <= parts.length; length++) ids.add(parts.slice(0, length).join("~"));
  return ids;
}

/** How many times a token was narrowed. */
export function narrowingDepth(jti: string): number {
  return jti.split("~").length - 1;
}

/** A new id for a token that is made with the token `jti`. */
export function childTokenId(jti: string, secrets: Secrets): string {
  return `${jti}~${Buffer.from(secrets.random(12)).toString("base64url")}`;
}
