// Access tokens as text (RFC 9068): how they are signed, and the one strict form in which they are accepted.
// A header may hold alg, typ and kid only, so no token brings its own key, and every fault gets the same
// error. This folder knows tokens: access, refresh and API tokens, the signing keys, what revokes a token,
// and how a bearer is authenticated.

import { type Clock, LIMITS } from "@formation-mcp/contract";
import { compactVerify, SignJWT } from "jose";
import * as z from "zod";
import type { Bounds } from "../../principals/principal.ts";
import { invalidToken } from "../storage/secrets.ts";
import { boundsShape } from "./bounds.ts";
import type { SigningKey, SigningKeys } from "./signing-keys.ts";

/** Longer tokens are refused without parsing. */
export const MAX_TOKEN_BYTES = 8 * 1024;

/** The claims of an access token. Times are seconds since the epoch. */
export interface AccessClaims {
  sub: string;
  jti: string;
  client_id: string;
  scope: string;
  iat: number;
  exp: number;
  bounds?: Bounds | undefined;
  key?: string | undefined;
  family?: string | undefined;
}

const TYPE = "at+jwt";
const ALGORITHMS = ["EdDSA", "Ed25519"] as const;
const COMPACT = /^[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]{86}$/;

const headerShape = z.strictObject({
  alg: z.enum(ALGORITHMS),
  typ: z.literal(TYPE),
  kid: z.string().regex(/^[A-Za-z0-9_-]{43}$/),
});

const name = z.string().min(1).max(512);
const seconds = z.number().int().positive();
const claimsShape = z.object({
  iss: z.string(),
  aud: z.string(),
  sub: name,
  jti: name,
  client_id: z.string().min(1).max(2048),
  scope: z.string().max(2048).default(""),
  iat: seconds,
  exp: seconds,
  nbf: seconds.optional(),
  bounds: boundsShape.optional(),
  key: name.optional(),
  family: name.optional(),
});

export interface AccessTokens {
  sign(claims: AccessClaims): Promise<string>;
  /** @throws FormationError `unauthenticated`, with the same words for every fault. */
  verify(token: string): Promise<AccessClaims>;
}

export function createAccessTokens(
  keys: SigningKeys,
  { issuer, audience }: { issuer: string; audience: string },
  clock: Clock,
): AccessTokens {
  const verify = async (token: string): Promise<AccessClaims> => {
    if (token.length > MAX_TOKEN_BYTES || !COMPACT.test(token)) throw invalidToken();
    const header = headerShape.safeParse(json(token.slice(0, token.indexOf("."))));
    const key = header.success ? await keys.find(header.data.kid) : null;
    if (!key) throw invalidToken();
    const payload = await verifiedPayload(key, token);
    const claims = claimsShape.safeParse(payload);
    if (!claims.success) throw invalidToken();
    const { iss, aud, nbf, ...rest } = claims.data;
    const now = clock.now() / 1000;
    const latestStart = now + LIMITS.clockSkewMs / 1000;
    const isCurrent = rest.exp > now && rest.iat <= latestStart && (nbf ?? 0) <= latestStart;
    const isShort = rest.exp > rest.iat && rest.exp - rest.iat <= LIMITS.accessTokenMs / 1000;
    if (iss !== issuer || aud !== audience || !isCurrent || !isShort) throw invalidToken();
    return rest;
  };

  return {
    verify,
    sign: async ({ iat, exp, sub, jti, ...claims }) => {
      const { sign, kid } = await keys.current();
      return new SignJWT({ ...claims })
        .setProtectedHeader({ alg: "EdDSA", typ: TYPE, kid })
        .setIssuer(issuer)
        .setAudience(audience)
        .setSubject(sub)
        .setJti(jti)
        .setIssuedAt(iat)
        .setExpirationTime(exp)
        .sign(sign);
    },
  };
}

/** The payload, if the key signed it and every part is canonical base64url. */
async function verifiedPayload(key: SigningKey, token: string): Promise<unknown> {
  try {
    const { payload } = await compactVerify(token, key.verify, { algorithms: [...ALGORITHMS] });
    return token.split(".").every(isCanonical) ? JSON.parse(new TextDecoder().decode(payload)) : null;
  } catch {
    throw invalidToken();
  }
}

function isCanonical(part: string): boolean {
  return Buffer.from(part, "base64url").toString("base64url") === part;
}

function json(part: string): unknown {
  try {
    return isCanonical(part) ? JSON.parse(Buffer.from(part, "base64url").toString("utf8")) : null;
  } catch {
    return null;
  }
}
