// Revoking: one token by its id, one token by its text, everything of a key, everything of an account.

import { FormationError } from "@formation-mcp/contract";
import { type AuthorityDeps, applyAtOnce } from "./authority-deps.ts";
import { MAX_TOKEN_BYTES } from "./tokens/access-tokens.ts";
import { isApiToken } from "./tokens/api-tokens.ts";
import { isOAuthServerTokenId, parseTokenId } from "./tokens/token-ids.ts";
import type { Authority } from "./types.ts";

/**
 * The kinds of documents that are removed with an account's tokens; the OAuth server's records are among
 * them.
 */
const TOKEN_KINDS = ["refresh", "api-token", "oidc:Grant", "oidc:RefreshToken", "oidc:AuthorizationCode"];

export function createTokenRevocation(
  deps: AuthorityDeps,
): Pick<Authority, "revokeToken" | "revokeBearer" | "revokeKey" | "revokeOwner"> {
  const { accounts, apiTokens, documents, sessions } = deps;
  return {
    revokeToken: (owner, id) => applyAtOnce(deps, owner, revokeById(deps, owner, id)),
    revokeBearer: async (token) => {
      try {
        return typeof token === "string" && token.length <= MAX_TOKEN_BYTES
          ? await revokeByText(deps, token)
          : null;
      } catch (error) {
        // A token that is not valid is revoked already (RFC 7009 §2.2).
        if (error instanceof FormationError && error.code === "unauthenticated") return null;
        throw error;
      }
    },
    revokeKey: async (owner, keyId) => {
      await applyAtOnce(deps, owner, accounts.revoke(owner, keyId));
      await sessions.endOfKey(owner, keyId);
      await apiTokens.removeOfKey(owner, keyId);
    },
    revokeOwner: async (owner) => {
      await applyAtOnce(deps, owner, accounts.revoke(owner));
      await documents.removeAll({ kinds: TOKEN_KINDS, owner });
    },
  };
}

/** @returns false if the owner has no such token */
async function revokeById(deps: AuthorityDeps, owner: string, id: string): Promise<boolean> {
  const { apiTokens, documents, revocations, sessions } = deps;
  const parts = parseTokenId(id);
  if (!parts) return false;
  const { root, family, isOwn } = parts;
  if (id === root && id.startsWith("tok_")) return await apiTokens.remove(owner, id);
  if (id === root && id.startsWith("ses_")) return await sessions.end(owner, family);
  if (isOwn) {
    const parent = await documents.get(family.startsWith("tok_") ? "api-token" : "refresh", family);
    if (parent?.owner !== owner) return false;
  } else if (!isOAuthServerTokenId(id)) return false;
  await revocations.add(owner, id);
  return true;
}

/** @throws FormationError `unauthenticated` if the text is no valid access token */
async function revokeByText(
  deps: AuthorityDeps,
  token: string,
): Promise<{ owner: string; id: string } | null> {
  const { apiTokens, bearers, revocations, sessions } = deps;
  if (token.startsWith("fmr_")) {
    const owner = await sessions.endByRefreshToken(token);
    if (owner === null) return null;
    bearers.forget(owner);
    return { owner, id: `ses_${token.slice(4, 36)}` };
  }
  if (isApiToken(token)) {
    const found = await apiTokens.find(token);
    if (found) await applyAtOnce(deps, found.owner, apiTokens.remove(found.owner, found.id));
    return found && { owner: found.owner, id: found.id };
  }
  const { principal } = await bearers.authenticate(token);
  const { owner, tokenId } = principal;
  if (!(await applyAtOnce(deps, owner, revokeById(deps, owner, tokenId)))) {
    await revocations.add(owner, tokenId);
  }
  return { owner, id: tokenId };
}
