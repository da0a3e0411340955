// Signed challenges and the tokens that they give, as the REST API takes and returns them.

import { parseScopes, type Scope } from "@formation-mcp/auth";
import type { SignedMessage, TokenPair } from "@formation-mcp/auth/authority";
import { type Clock, FormationError } from "@formation-mcp/contract";
import { z } from "zod";

export const address = z
  .string()
  .min(1)
  .max(200)
  .describe("The key's id: 0x… (secp256k1) or key:<RFC 7638 thumbprint> (Ed25519)");

/** The fields of a signed challenge. */
export const signed = {
  address,
  signed_message: z
    .string()
    .min(1)
    .max(4096)
    .describe("The message of GET /api/auth/challenge, unchanged; anything else is refused"),
  signature: z
    .string()
    .min(1)
    .max(1024)
    .describe("secp256k1: 65 bytes in hex (EIP-191 personal_sign). Ed25519: 64 bytes in base64url or hex"),
  public_key: z.record(z.string(), z.unknown()).optional().describe("JWK; needed for Ed25519 keys"),
};

/** The ancestor's LoginResponse, with the fields of an OAuth token response (RFC 6749 §5.1). */
export const signedIn = z.object({
  token: z.string().describe("Access token (JWT), for `Authorization: Bearer`"),
  user_id: z.string().describe("The account: the owner of its records"),
  expires_at: z.int().describe("When the token expires, in seconds since the epoch"),
  permissions: z.array(z.string()).describe("Scopes"),
  token_type: z.literal("Bearer"),
  expires_in: z.int().describe("Seconds"),
  scope: z.string(),
  refresh_token: z.string().optional().describe("For POST /api/auth/refresh; good once"),
});

export function asSignedIn(clock: Clock, pair: TokenPair): z.output<typeof signedIn> {
  return {
    token: pair.access_token,
    user_id: pair.owner,
    expires_at: Math.floor(clock.now() / 1000) + pair.expires_in,
    permissions: pair.scope.split(" ").filter((scope) => scope !== ""),
    token_type: pair.token_type,
    expires_in: pair.expires_in,
    scope: pair.scope,
    ...(pair.refresh_token === undefined ? {} : { refresh_token: pair.refresh_token }),
  };
}

export function scopeSet(list: string | readonly string[] | undefined): ReadonlySet<Scope> | undefined {
  if (list === undefined) return undefined;
  return parseScopes(typeof list === "string" ? list : list.join(" "));
}

interface SignedChallenge {
  address: string;
  signed_message: string;
  signature: string;
  public_key?: Record<string, unknown> | undefined;
}

/**
 * The signed message, for the authority. Its second line names the key (EIP-4361), which must be the address
 * given.
 * @throws FormationError `unauthenticated`
 */
export function signedMessage({
  address,
  signed_message: message,
  signature,
  public_key,
}: SignedChallenge): SignedMessage {
  const named = message.split("\n")[1]?.trim() ?? "";
  if (named.toLowerCase() !== address.toLowerCase()) {
    throw new FormationError("unauthenticated", "The signed message is no challenge for this address.", {
      field: "signed_message",
      remedy: "Get a message from GET /api/auth/challenge?address=…, sign it unchanged, and send it here.",
    });
  }
  return { message, signature, ...(public_key === undefined ? {} : { publicKey: public_key }) };
}
