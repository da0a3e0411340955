// Signing in: a challenge of the server is checked, signed with the key, and exchanged for a session.

import { FormationError } from "@formation-mcp/contract";
import { isObject } from "./errors.ts";
import type { Signer } from "./signer.ts";
import type { Wire } from "./wire.ts";

/** The tokens of a sign-in. Possession is enough to use them: keep them secret. */
export interface Session {
  access_token: string;
  /** Milliseconds since the epoch. */
  expires_at: number;
  refresh_token: string | null;
  scopes: string[];
  owner: string;
}

/** The lifetime of a token whose response does not say it. */
const DEFAULT_LIFETIME_MS = 600_000;

/**
 * Asks for a challenge, has it signed, and sends the signature.
 * @param more further fields of the request.
 */
export async function signIn(
  wire: Wire,
  key: Signer,
  now: () => number,
  path = "/api/auth/login",
  more: object = {},
): Promise<Session> {
  const signed = await answerChallenge(wire, key, now);
  const response = await wire.send({
    method: "POST",
    path,
    json: { ...signed, ...more },
    repeatable: false,
  });
  return parseSession(response, now);
}

/** A challenge of the server with the key's signature, as sign-in routes accept it. */
async function answerChallenge(wire: Wire, key: Signer, now: () => number): Promise<object> {
  const response = await wire.send({
    method: "GET",
    path: "/api/auth/challenge",
    query: { address: key.id },
    repeatable: true,
  });
  const message = isObject(response) ? response["message"] : undefined;
  const { signature, publicKey } = await signChallenge(wire.url, key, message, now);
  const publicPart = publicKey === undefined ? {} : { public_key: publicKey };
  return { address: key.id, signed_message: message, signature, ...publicPart };
}

/**
 * Signs a challenge, if it is for this server and this key. With a signature over the challenge of another
 * server, this server could sign in there.
 * @param statement the statement that the challenge must have.
 * @throws FormationError `invalid`
 */
export async function signChallenge(
  url: string,
  key: Signer,
  message: unknown,
  now: () => number,
  statement?: string,
): Promise<{ signature: string; publicKey?: object }> {
  const { readChallenge } = await import("@formation-mcp/auth/keys"); // loads the curves, only when needed
  if (typeof message !== "string") throw unexpectedResponse(url);
  const challenge = readChallenge(message, { issuer: url, keyId: key.id, now: now() });
  if (statement !== undefined && challenge.statement !== statement) {
    throw new FormationError("invalid", `${url} asks to sign something else than it showed.`, {
      remedy: "Do not sign it.",
      field: "message",
    });
  }
  return key.sign(message);
}

/** Reads the response to a sign-in or a refresh. */
export function parseSession(response: unknown, now: () => number): Session {
  const data = isObject(response) ? response : {};
  const token = data["access_token"] ?? data["token"];
  const refresh = data["refresh_token"];
  const scopes = data["scope"] ?? data["permissions"];
  const owner = data["owner"] ?? data["user_id"];
  if (typeof token !== "string" || token === "") throw unexpectedResponse("The server");
  return {
    access_token: token,
    expires_at: expiryOf(data, now),
    refresh_token: typeof refresh === "string" ? refresh : null,
    scopes: scopesOf(scopes),
    owner: typeof owner === "string" ? owner : "",
  };
}

/** Prefers the duration to the point in time, because the clocks of server and client differ. */
function expiryOf(data: Record<string, unknown>, now: () => number): number {
  const seconds = Number(data["expires_in"]);
  if (Number.isFinite(seconds)) return now() + seconds * 1000;
  const at = Number(data["expires_at"]) * 1000;
  return Number.isFinite(at) ? at : now() + DEFAULT_LIFETIME_MS;
}

/** Scopes as a list, from a list or a text with spaces. */
export function scopesOf(value: unknown): string[] {
  if (typeof value === "string") return value.split(" ").filter((scope) => scope !== "");
  return Array.isArray(value) ? value.filter((scope) => typeof scope === "string") : [];
}

function unexpectedResponse(who: string): FormationError {
  return new FormationError("unavailable", `${who} answered a sign-in with something else.`, {
    remedy: "Check that the URL is a Formation server's.",
  });
}
