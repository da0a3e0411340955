// Challenges: messages that this authority wrote, each to be signed once. What comes back must be a stored one byte for
// byte, and taking it from the store is what uses it up, whichever server process it comes back to.

import { type Clock, type Documents, FormationError, LIMITS } from "@formation-mcp/contract";
import { checksumAddress } from "../keys/ethereum.ts";
import { keyId, verifyMessage } from "../keys/identity.ts";
import type { PublicJwk } from "../keys/jwk.ts";
import { formatSignInMessage, parseSignInMessage } from "../keys/sign-in-message.ts";
import { type KeyKnown, knownKey } from "./accounts/accounts.ts";
import type { Secrets } from "./storage/secrets.ts";
import type { Challenge, SignedMessage } from "./types.ts";

const KIND = "challenge";
const MAX_STATEMENT = 1000;
const MAX_RESOURCES = 16;
const MAX_RESOURCE = 512;
const KEY_ID = /^key:[A-Za-z0-9_-]{43}$/;

interface Stored {
  message: string;
}

export interface Challenges {
  issue(request: { address: string; statement?: string; resources?: readonly string[] }): Promise<Challenge>;
  /** The key that signed; the challenge is used up, also by a signature that does not fit. */
  redeem(signed: SignedMessage): Promise<KeyKnown>;
}

export function challengesIn(
  documents: Documents,
  issuer: string,
  secrets: Secrets,
  clock: Clock,
  jwkOf: (keyId: string) => Promise<PublicJwk | null>,
): Challenges {
  const domain = new URL(issuer).host;
  return {
    issue: async ({ address, statement, resources }) => {
      const id = signer(address);
      const now = clock.now();
      const expires_at = now + LIMITS.challengeMs;
      const nonce = Buffer.from(secrets.random(16)).toString("hex");
      if (
        resources &&
        (resources.length > MAX_RESOURCES || resources.some((uri) => uri.length > MAX_RESOURCE))
      ) {
        throw new FormationError("invalid", "There are too many resources, or one is too long.", {
          remedy: `At most ${MAX_RESOURCES} of ${MAX_RESOURCE} characters.`,
          field: "resources",
        });
      }
      const message = formatSignInMessage({
        kind: id.startsWith("0x") ? "secp256k1" : "ed25519",
        domain,
        address: id,
        ...(statement === undefined ? {} : { statement: plain(statement) }),
        uri: issuer,
        chainId: "1",
        nonce,
        issuedAt: new Date(now).toISOString(),
        expirationTime: new Date(expires_at).toISOString(),
        ...(resources === undefined || resources.length === 0 ? {} : { resources }),
      });
      await documents.put<Stored>({ kind: KIND, id: nonce, doc: { message }, expires_at }, 0);
      return { message, nonce, expires_at };
    },
    redeem: async (signed) => {
      const { message, signature, publicKey } = shaped(signed);
      const { nonce, address } = parsed(message);
      const stored = await documents.take<Stored>(KIND, nonce);
      if (!stored || stored.doc.message !== message || (stored.expires_at ?? 0) <= clock.now()) {
        throw notSigned("This challenge was not issued here, has expired, or was used before.");
      }
      const jwk = address.startsWith("0x") ? null : (publicKey ?? (await jwkOf(address)));
      if (!address.startsWith("0x") && publicKey === null) {
        // Whether the key is known here is for its holder to learn: one answer for a stranger's signature either way.
        if (jwk === null || !holds(() => verifyMessage(address, jwk, message, signature))) throw notShown();
      } else {
        if (jwk !== null && keyId(jwk) !== address) throw notSigned("The public key is not the challenge's.");
        if (!verifyMessage(address, jwk, message, signature)) {
          throw notSigned("The signature is not the challenge's key's.");
        }
      }
      return knownKey(jwk === null ? { id: address } : { publicKey: jwk });
    },
  };
}

/** A signer's id in its one spelling. */
function signer(address: string): string {
  if (typeof address === "string") {
    if (address.startsWith("0x")) return checksumAddress(address);
    if (KEY_ID.test(address)) return address;
  }
  throw new FormationError("invalid", "This is no key's id.", {
    remedy:
      "Give an address (0x and 40 hexadecimal digits), or key: and an Ed25519 key's RFC 7638 thumbprint.",
    field: "address",
  });
}

/** What EIP-4361 has no place for becomes a question mark: a statement may hold a stranger's words. */
function plain(statement: string): string {
  return statement.slice(0, MAX_STATEMENT).replaceAll(/[^A-Za-z0-9\-._~:/?#[\]@!$&'()*+,;= ]/gu, "?");
}

function shaped(signed: SignedMessage): { message: string; signature: string; publicKey: PublicJwk | null } {
  const { message, signature, publicKey } = (signed ?? {}) as Partial<SignedMessage>;
  if (typeof message !== "string" || typeof signature !== "string" || signature.length > 200) {
    throw new FormationError("invalid", "A signed challenge is a message and its signature.", {
      remedy: "Send both as texts.",
      field: typeof message === "string" ? "signature" : "message",
    });
  }
  return { message, signature, publicKey: (publicKey ?? null) as PublicJwk | null };
}

function parsed(message: string): { nonce: string; address: string } {
  try {
    return parseSignInMessage(message);
  } catch (cause) {
    throw new FormationError("unauthenticated", "This is no challenge of this server.", {
      cause,
      remedy: "Ask for a challenge and sign exactly what was sent.",
    });
  }
}

function holds(check: () => boolean): boolean {
  try {
    return check();
  } catch {
    return false;
  }
}

function notShown(): FormationError {
  return new FormationError("unauthenticated", "The signature is not that of a key known here.", {
    remedy: "Ask for a new challenge, sign it, and send the Ed25519 key's public JWK as publicKey with it.",
    field: "publicKey",
  });
}

function notSigned(message: string): FormationError {
  return new FormationError("unauthenticated", message, {
    remedy: "Ask for a new challenge, sign exactly what was sent, and send it once.",
  });
}
