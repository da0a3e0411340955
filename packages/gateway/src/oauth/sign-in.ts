// Sign-in of a key for a client. The signed message names the client and the one interaction that it is for,
// so that a signature from elsewhere is worthless here.

import { SCOPES, type Scope } from "@formation-mcp/auth";
import type { Authority, SignedMessage } from "@formation-mcp/auth/authority";
import { FormationError } from "@formation-mcp/contract";
import type { Signer } from "./login-codes.ts";
import type { ClientDisplay } from "./provider/clients.ts";
import type { Secrets } from "./secrets.ts";

export interface SignIn {
  /** The message that a key signs for an interaction. */
  challenge(
    uid: string,
    address: unknown,
    client: ClientDisplay,
    scopes: readonly Scope[],
  ): Promise<{ message: string }>;
  /**
   * Verifies a signed message of {@link challenge}; it is valid once.
   * @throws FormationError `unauthenticated`, also for the message of another interaction.
   */
  verify(uid: string, signed: Record<string, unknown>): Promise<Signer>;
}

export function createSignIn(authority: Authority, secrets: Secrets): SignIn {
  const resourceOf = (uid: string) => `${authority.issuer}/auth/login#${secrets.binding(uid)}`;
  return {
    async challenge(uid, address, client, scopes) {
      if (typeof address !== "string" || address.length > 100) {
        throw new FormationError("invalid", "The address of a key is missing.", {
          remedy: 'Send {"address": "0x…"} or {"address": "key:…"}.',
          field: "address",
        });
      }
      const statement = statementFor(client, scopes);
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

/**
 * The line that a wallet shows. Where the answer goes comes first, because it is verified; the name that the
 * app gives itself comes after it.
 */
export function statementFor(client: ClientDisplay, scopes: readonly Scope[]): string {
  const place = ascii(client.redirect.label);
  const name = client.name === null ? "" : `, for an app that calls itself ${ascii(client.name)}`;
  const known = scopes.filter((scope) => SCOPES.includes(scope));
  return `Sign in and return to ${place}${name}. It asks for: ${known.join(" ") || "nothing"}.`;
}

/**
 * The characters that EIP-4361 allows in a statement, without those that could end or begin a clause of ours.
 */
function ascii(text: string): string {
  return text.replace(/[^A-Za-z0-9 .:/()_@+-]/g, "?");
}
