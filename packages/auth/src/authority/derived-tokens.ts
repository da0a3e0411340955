// Tokens that are made with another token: narrowed access tokens, and API tokens. They never have more
// rights than the token that they are made with.

import { FormationError, LIMITS } from "@formation-mcp/contract";
import { allowedScopes, isGrantValid, lastRevoked } from "./accounts/grants.ts";
import type { Account } from "./accounts/types.ts";
import type { AuthorityDeps } from "./authority-deps.ts";
import { invalidToken } from "./storage/secrets.ts";
import { checkLifetime } from "./tokens/api-tokens.ts";
import { narrowBounds, narrowScopes } from "./tokens/bounds.ts";
import { childTokenId, narrowingDepth, OWN_CLIENT, revocableIds } from "./tokens/token-ids.ts";
import type { Authenticated } from "./tokens/types.ts";
import type { Authority } from "./types.ts";

const MAX_NARROWINGS = 4;

export function createDerivedTokens(
  deps: AuthorityDeps,
): Pick<Authority, "narrow" | "createApiToken" | "apiTokens"> {
  const { apiTokens, issueAccessToken, secrets } = deps;
  return {
    apiTokens: apiTokens.list,
    narrow: async (by, { scopes, bounds, expiresInSeconds }) => {
      const { account, now } = await readAccount(deps, by);
      if (expiresInSeconds !== undefined) checkLifetime(expiresInSeconds, LIMITS.accessTokenMs / 1000);
      if (narrowingDepth(by.principal.tokenId) >= MAX_NARROWINGS) {
        throw new FormationError(
          "limit",
          `A token can be narrowed at most ${MAX_NARROWINGS} times in a row.`,
          {
            remedy: "Make this token with one of those that it descends from.",
          },
        );
      }
      const narrowed = narrowBounds(by.principal.bounds, bounds);
      const second = Math.floor(now / 1000);
      return await issueAccessToken({
        account,
        jti: childTokenId(by.principal.tokenId, secrets),
        scopes: allowedScopes(account, narrowScopes(by.principal, scopes)),
        clientId: by.clientId,
        keyId: by.keyId,
        family: by.family,
        bounds: narrowed,
        now,
        expiresAt: Math.min(by.expiresAt, second + (expiresInSeconds ?? LIMITS.accessTokenMs / 1000)),
      });
    },
    createApiToken: async (by, { name, scopes, bounds, expiresInSeconds }) => {
      const { account, now } = await readAccount(deps, by);
      const { tokenId } = by.principal;
      // An API token outlives the token that it is made with, so it needs a session of the key itself: no
      // token of an OAuth client, no API token and no narrowed token will do.
      if (by.clientId !== OWN_CLIENT || !tokenId.startsWith("ses_") || narrowingDepth(tokenId) > 0) {
        throw new FormationError("forbidden", "API tokens are made by somebody who signed in with a key.", {
          remedy: "Sign in with your key and make the token then.",
        });
      }
      return await apiTokens.create({
        owner: account.owner,
        key: by.keyId ?? null,
        name,
        scopes: allowedScopes(account, narrowScopes(by.principal, scopes)),
        bounds: narrowBounds(by.principal.bounds, bounds),
        expiresInSeconds,
        // A revocation within this millisecond must not void a token that is made after it.
        now: Math.max(now, lastRevoked(account, by.keyId) + 1),
      });
    },
  };
}

/**
 * The account behind a token, read from the store now: a token that was revoked a moment ago must make no new
 * one.
 * @throws FormationError `unauthenticated`
 */
async function readAccount(
  { accounts, clock, revocations }: AuthorityDeps,
  by: Authenticated,
): Promise<{ account: Account; now: number }> {
  const now = clock.now();
  const account = await accounts.get(by.principal.owner);
  const issuedAt = (by.issuedAt ?? 0) * 1000;
  if (!account || by.expiresAt * 1000 <= now || !isGrantValid(account, issuedAt, by.keyId)) {
    throw invalidToken();
  }
  const ids = revocableIds(by.principal.tokenId, by.family);
  if (await revocations.any(account.owner, ids)) throw invalidToken();
  return { account, now };
}
