// The authority, put together from its operations.

import { createAccountKeys } from "./account-keys.ts";
import { createAccountScopes } from "./account-scopes.ts";
import { createAuthorityDeps } from "./authority-deps.ts";
import { createDerivedTokens } from "./derived-tokens.ts";
import { createSignIn } from "./sign-in.ts";
import { createTokenRevocation } from "./token-revocation.ts";
import type { Authority, AuthorityOptions } from "./types.ts";

/**
 * The authority over the accounts, tokens and keys in `documents`. It runs nothing in the background and
 * needs no closing.
 * @throws FormationError `invalid` if the issuer is no origin or the master key is not 32 bytes.
 */
export function createAuthority(options: AuthorityOptions): Authority {
  const deps = createAuthorityDeps(options);
  const { accounts, bearers, signingKeys } = deps;
  return {
    issuer: options.issuer,
    audience: options.audience,
    authenticate: bearers.authenticate,
    account: accounts.get,
    accounts: accounts.list,
    ...createSignIn(deps, options),
    ...createDerivedTokens(deps),
    ...createTokenRevocation(deps),
    ...createAccountScopes(deps),
    ...createAccountKeys(deps),
    jwks: async () => ({
      keys: (await signingKeys.all()).map(({ publicJwk }) => ({ ...publicJwk, alg: "EdDSA" })),
    }),
    signingKeys: async () => {
      const keys = await signingKeys.all();
      return { version: keys[0]?.generation ?? 0, keys: keys.map(({ privateJwk }) => ({ ...privateJwk })) };
    },
    rotate: signingKeys.rotate,
    ready: signingKeys.ready,
  };
}
