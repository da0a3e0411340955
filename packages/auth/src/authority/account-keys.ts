// Adding keys to an account and removing them, with everything that a removed key had been granted. This
// folder knows the operations of an authority: each file implements some methods of the interface in
// `types.ts` with the parts that `authority-deps.ts` makes.

import { checkKey, checkLabel } from "./accounts/account-key.ts";
import { type AuthorityDeps, applyAtOnce } from "./authority-deps.ts";
import type { Authority } from "./types.ts";

export function createAccountKeys(
  deps: AuthorityDeps,
): Pick<Authority, "accountOfKey" | "publicKeyOf" | "addKey" | "removeKey"> {
  const { accounts, apiTokens, challenges, sessions } = deps;
  return {
    accountOfKey: accounts.ofKey,
    publicKeyOf: async (keyId) => ((await accounts.ofKey(keyId)) ? await accounts.jwkOf(keyId) : null),
    addKey: async (owner, signed, label) => {
      checkLabel(label);
      const { id, jwk } = await challenges.redeem(signed);
      const key = checkKey({
        ...(jwk === null ? { id } : { publicKey: jwk }),
        ...(label === undefined ? {} : { label }),
      });
      return await applyAtOnce(deps, owner, accounts.addKey(owner, key));
    },
    removeKey: async (owner, keyId) => {
      const account = await applyAtOnce(deps, owner, accounts.removeKey(owner, keyId));
      await sessions.endOfKey(owner, keyId);
      await apiTokens.removeOfKey(owner, keyId);
      return account;
    },
  };
}
