// Challenges: messages that this authority wrote, each to be signed once. A signed message must equal the
// stored one byte for byte, and is taken from the store, so it can be used once only, whichever server
// process receives it.

import { type Clock, type Documents, FormationError, LIMITS } from "@formation-mcp/contract";
import { checksumAddress } from "../keys/ethereum.ts";
import { keyId, verifyMessage } from "../keys/identity.ts";
import type { PublicJwk } from "../keys/jwk.ts";
import { formatSignInMessage, parseSignInMessage } from "../keys/sign-in-message.ts";
import { type CheckedKey, checkKey } from "./accounts/account-key.ts";
import type { Secrets } from "./storage/secrets.ts";
import type { Challenge, SignedMessage } from "./types.ts";

const KIND = "challenge";
const MAX_STATEMENT_CHARS = 1000;
const MAX_RESOURCES = 16;
const MAX_RESOURCE_CHARS = 512;
const MAX_SIGNATURE_CHARS = 200;
const KEY_ID = /^key:[A-Za-z0-9_-]{43}$/;

/** The stored document. Its id is the nonce. */
interface Stored {
  message: string;
}

export interface Challenges {
  /** @throws FormationError `invalid` for the address or the resources */
  issue(request: { address: string; statement?: string; resources?: readonly string[] }): Promise<Challenge>;
  /**
   * The key that signed. The challenge is used up, even if the signature is wrong.
   * @throws FormationError `invalid` for the wrong shape; `unauthenticated`
   */
  redeem(signed: SignedMessage): Promise<CheckedKey>;
}

export interface ChallengeDeps {
  documents: Documents;
  /** The server's origin. */
  issuer: string;
  secrets: Secrets;
  clock: Clock;
  /** The stored public half of an Ed25519 key, for signatures that come without it. */
  jwkOf: (keyId: string) => Promise<PublicJwk | null>;
}

export function createChallenges({ documents, issuer, secrets, clock, jwkOf }: ChallengeDeps): Challenges {
  const domain = new URL(issuer).host;
  return {
    issue: async ({ address, statement, resources }) => {
      const id = canonicalId(address);
      const now = clock.now();
      const expires_at = now + LIMITS.challengeMs;
      const nonce = Buffer.from(secrets.random(16)).toString("hex");
      if (
        resources &&
        (resources.length > MAX_RESOURCES || resources.some((uri) => uri.length > MAX_RESOURCE_CHARS))
      ) {
        throw new FormationError("invalid", "There are too many resources, or one is too long.", {
          remedy: `At most ${MAX_RESOURCES} of ${MAX_RESOURCE_CHARS} characters.`,
          field: "resources",
        });
      }
      const message = formatSignInMessage({
        kind: id.startsWith("0x") ? "secp256k1" : "ed25519",
        domain,
        address: id,
        ...(statement === undefined ? {} : { statement: allowedCharacters(statement) }),
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
      const { message, signature, publicKey } = checkShape(signed);
      const { nonce, address } = parse(message);
      const stored = await documents.take<Stored>(KIND, nonce);
      if (!stored || stored.doc.message !== message || (stored.expires_at ?? 0) <= clock.now()) {
        throw notAccepted("This challenge was not issued here, has expired, or was used before.");
      }
      const jwk = address.startsWith("0x") ? null : (publicKey ?? (await jwkOf(address)));
      if (!address.startsWith("0x") && publicKey === null) {
        // A caller without the key must not learn whether the key is known here: one error for both cases.
        if (jwk === null || !isTrue(() => verifyMessage(address, jwk, message, signature)))
          throw unknownKey();
      } else {
        if (jwk !== null && keyId(jwk) !== address) {
          throw notAccepted("The public key is not the challenge's.");
        }
        if (!verifyMessage(address, jwk, message, signature)) {
          throw notAccepted("The signature is not the challenge's key's.");
        }
      }
      return checkKey(jwk === null ? { id: address } : { publicKey: jwk });
    },
  };
}

/** A key's id in its canonical spelling. */
function canonicalId(address: string): string {
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

/**
 * Replaces what EIP-4361 does not allow in a statement by question marks: parts of it may come from a client.
 */
function allowedCharacters(statement: string): string {
  return statement.slice(0, MAX_STATEMENT_CHARS).replaceAll(/[^A-Za-z0-9\-._~:/?#[\]@!$&'()*+,;= ]/gu, "?");
}

function checkShape(signed: SignedMessage): {
  message: string;
  signature: string;
  publicKey: PublicJwk | null;
} {
  const { message, signature, publicKey } = (signed ?? {}) as Partial<SignedMessage>;
  if (
    typeof message !== "string" ||
    typeof signature !== "string" ||
    signature.length > MAX_SIGNATURE_CHARS
  ) {
    throw new FormationError("invalid", "A signed challenge is a message and its signature.", {
      remedy: "Send both as texts.",
      field: typeof message === "string" ? "signature" : "message",
    });
  }
  return { message, signature, publicKey: (publicKey ?? null) as PublicJwk | null };
}

function parse(message: string): { nonce: string; address: string } {
  try {
    return parseSignInMessage(message);
  } catch (cause) {
    throw new FormationError("unauthenticated", "This is no challenge of this server.", {
      cause,
      remedy: "Ask for a challenge and sign exactly what was sent.",
    });
  }
}

/** Whether a check returns true; what it throws counts as false. */
function isTrue(check: () => boolean): boolean {
  try {
    return check();
  } catch {
    return false;
  }
}

function unknownKey(): FormationError {
  return new FormationError("unauthenticated", "The signature is not that of a key known here.", {
    remedy: "Ask for a new challenge, sign it, and send the Ed25519 key's public JWK as publicKey with it.",
    field: "publicKey",
  });
}

function notAccepted(message: string): FormationError {
  return new FormationError("unauthenticated", message, {
    remedy: "Ask for a new challenge, sign exactly what was sent, and send it once.",
  });
}
