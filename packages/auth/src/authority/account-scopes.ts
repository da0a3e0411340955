// Who may do what: admitting keys, changing the scopes of accounts, and making the first admin with the
// bootstrap token. Once an account is admin, the bootstrap token is void.

import { SCOPES, type Scope } from "../principals/scopes.ts";
import { type CheckedKey, checkKey } from "./accounts/account-key.ts";
import { invalidBootstrapToken } from "./accounts/bootstrap.ts";
import type { Account } from "./accounts/types.ts";
import { type AuthorityDeps, applyAtOnce } from "./authority-deps.ts";
import type { Authority } from "./types.ts";

export function createAccountScopes(
  deps: AuthorityDeps,
): Pick<Authority, "admit" | "setScopes" | "bootstrapToken" | "bootstrap"> {
  const { accounts, bootstrap, challenges, clock, sessions } = deps;

  /** The account that a key has, or would open. */
  const ownerOf = async (key: CheckedKey) => (await accounts.ofKey(key.id))?.owner ?? key.id;

  const change = (owner: string, scopes: ReadonlySet<Scope>) =>
    applyAtOnce(deps, owner, accounts.setScopes(owner, scopes));

  /** Opens the key's account if it has none, and gives it these scopes. */
  const openWith = async (key: CheckedKey, scopes: ReadonlySet<Scope>): Promise<Account> => {
    const { owner } = await accounts.open(key, scopes);
    return await change(owner, scopes);
  };

  /** Closes the bootstrap gate around a change that makes an account admin. */
  const closingBootstrap = async (
    owner: string,
    scopes: ReadonlySet<Scope>,
    apply: () => Promise<Account>,
  ): Promise<Account> => {
    if (scopes.has("admin")) await bootstrap.close(owner);
    const account = await apply();
    if (scopes.has("admin")) await bootstrap.confirm(owner);
    return account;
  };

  return {
    admit: async (given, scopes) => {
      const known = given.id === undefined ? null : await accounts.ofKey(given.id);
      const key = known && given.publicKey === undefined ? null : checkKey(given);
      const owner = known?.owner ?? (key ? await ownerOf(key) : "");
      return await closingBootstrap(owner, scopes, () =>
        key ? openWith(key, scopes) : change(owner, scopes),
      );
    },
    setScopes: (owner, scopes) => closingBootstrap(owner, scopes, () => change(owner, scopes)),
    bootstrapToken: bootstrap.token,
    bootstrap: async (token, signed) => {
      await bootstrap.check(token);
      const key = await challenges.redeem(signed);
      const owner = await ownerOf(key);
      if (!(await bootstrap.close(owner))) throw invalidBootstrapToken();
      const now = clock.now();
      const scopes = new Set<Scope>(SCOPES);
      const account = await openWith(key, scopes);
      await bootstrap.confirm(owner);
      return await sessions.begin(account, key.id, scopes, now);
    },
  };
}
