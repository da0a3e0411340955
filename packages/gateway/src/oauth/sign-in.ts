// How a key signs in for a client: the secret is that the message says for whom, and names the one interaction it was made
// for, so that a signature got elsewhere is worth nothing here.

import { SCOPES, type Scope } from "@formation-mcp/auth";
import type { Authority, SignedMessage } from "@formation-mcp/auth/authority";
import { FormationError } from "@formation-mcp/contract";
import type { Signer } from "./login-codes.ts";
import type { ClientDisplay } from "./provider/clients.ts";
import type { Secrets } from "./secrets.ts";

export interface SignIn {
  /** The message that the key of an address is to sign for an interaction. */
  challenge(
    uid: string,
    address: unknown,
    face: ClientDisplay,
    scopes: readonly Scope[],
  ): Promise<{ message: string }>;
  /**
   * Checks a signed message of {@link challenge} and uses it up.
   * @throws FormationError `unauthenticated`, also for a message of another interaction.
   */
  verify(uid: string, signed: Record<string, unknown>): Promise<Signer>;
}

export function createSignIn(authority: Authority, secrets: Secrets): SignIn {
  const resourceOf = (uid: string) => `${authority.issuer}/auth/login#${secrets.binding(uid)}`;
  return {
    async challenge(uid, address, face, scopes) {
      if (typeof address !== "string" || address.length > 100) {
        throw new FormationError("invalid", "The address of a key is missing.", {
          remedy: 'Send {"address": "0x…"} or {"address": "key:…"}.',
          field: "address",
        });
      }
      const statement = statementFor(face, scopes);
      const { message } = await authority.challenge({ address, statement, resources: [resourceOf(uid)] });
      return { message };
    },
    async verify(uid, { message, signature, publicKey }) {
      const known = typeof message === "string" && message.length <= 4000 && typeof signature === "string";
      if (!known || !message.split("\n").includes(`- ${resourceOf(uid)}`)) {
        throw new FormationError("unauthenticated", "This is no signature for this sign-in.", {
          remedy: "Ask for a new message and sign that.",
        });
      }
      const signed: SignedMessage = { message, signature: signature.slice(0, 400) };
      if (typeof publicKey === "object" && publicKey !== null) signed.publicKey = publicKey;
      const { account, key } = await authority.verify(signed);
      return { owner: account.owner, key: key.id };
    },
  };
}

/** One line that a wallet shows: where the answer goes first, because that is known, and what the app calls itself after it. */
export function statementFor(face: ClientDisplay, scopes: readonly Scope[]): string {
  const place = ascii(face.redirect.label);
  const name = face.name === null ? "" : `, for an app that calls itself ${ascii(face.name)}`;
  const known = scopes.filter((scope) => SCOPES.includes(scope));
  return `Sign in and return to ${place}${name}. It asks for: ${known.join(" ") || "nothing"}.`;
}

/** What EIP-4361 lets a statement hold, without what could end or open a clause of ours. */
function ascii(text: string): string {
  return text.replace(/[^A-Za-z0-9 .:/()_@+-]/g, "?");
}
