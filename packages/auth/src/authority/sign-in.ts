// Signing in: a challenge, its signature, and the account of the key that signed. Opens an account where
// registration is open.

import { FormationError } from "@formation-mcp/contract";
import { allScopes, type Scope } from "../principals/scopes.ts";
import type { CheckedKey } from "./accounts/account-key.ts";
import { allowedScopes } from "./accounts/grants.ts";
import type { Account, AccountKey } from "./accounts/types.ts";
import type { AuthorityDeps } from "./authority-deps.ts";
import { invalidToken } from "./storage/secrets.ts";
import type { Authority, AuthorityOptions } from "./types.ts";

export function createSignIn(
  deps: AuthorityDeps,
  options: Pick<AuthorityOptions, "openRegistration" | "registrationScopes">,
): Pick<Authority, "challenge" | "verify" | "signIn" | "refresh"> {
  const { accounts, challenges, clock, sessions } = deps;
  const { openRegistration = false, registrationScopes = allScopes() } = options;

  const verify: Authority["verify"] = async (signed) => {
    const key = await challenges.redeem(signed);
    const known = await accounts.ofKey(key.id);
    if (!known && !openRegistration) {
      throw new FormationError("forbidden", "This key has no account here.", {
        remedy: `Ask an admin of this server to admit ${key.id}.`,
      });
    }
    if (known && key.jwk !== null) await accounts.learnPublicKey(known.owner, key);
    const account = known ?? (await accounts.open(key, withoutAdmin(registrationScopes)));
    return { account, key: keyOf(account, key) };
  };

  return {
    challenge: challenges.issue,
    verify,
    signIn: async (signed, { scopes } = {}) => {
      const { account: verified, key } = await verify(signed);
      const now = clock.now();
      const account = (await accounts.get(verified.owner)) ?? verified;
      return sessions.begin(account, key.id, allowedScopes(account, scopes ?? account.scopes), now);
    },
    refresh: async (refreshToken) => {
      if (typeof refreshToken !== "string") throw invalidToken();
      return await sessions.refresh(refreshToken);
    },
  };
}

/** The account's own record of a key. */
function keyOf(account: Account, key: CheckedKey): AccountKey {
  const found = account.keys.find(({ id }) => id === key.id);
  if (found) return found;
  throw new FormationError("conflict", "The key was removed from its account meanwhile.", {
    remedy: "Sign in with another key.",
  });
}

function withoutAdmin(scopes: ReadonlySet<Scope>): ReadonlySet<Scope> {
  return new Set([...scopes].filter((scope) => scope !== "admin"));
}
