// The signed-challenge grant, for keys that cannot make a JWT: a signed challenge becomes an access token.

import type { Scope } from "@formation-mcp/auth";
import type { Authority } from "@formation-mcp/auth/authority";
import { FormationError } from "@formation-mcp/contract";
import { errors, type Provider, type ResourceServer, type TokenEndpointGrantContext } from "oidc-provider";
import { CHALLENGE_GRANT } from "./clients.ts";
import { knownScopes, scopesOf } from "./scopes.ts";

const PARAMETERS = ["message", "signature", "public_jwk", "scope", "resource"] as const;

type Parameters = Partial<Record<(typeof PARAMETERS)[number], string>>;

/** The name under which the request context holds the key that signed, for the token's claims. */
export const SIGNER = "FormationSigner";

/**
 * Adds {@link CHALLENGE_GRANT} to a provider. Parameters: `message`, `signature`, `public_jwk?`, `scope?`,
 * `resource?`.
 */
export function registerChallengeGrant(
  provider: Provider,
  authority: Authority,
  resourceServer: (scopes: readonly Scope[]) => ResourceServer,
): void {
  provider.registerGrantType<Parameters>(
    CHALLENGE_GRANT,
    async (ctx: TokenEndpointGrantContext<Parameters>) => {
      const { message, signature, public_jwk, scope, resource } = ctx.oidc.params;
      if (!message || !signature) {
        throw new errors.InvalidRequest("the parameters message and signature are required");
      }
      if (resource !== undefined && resource !== authority.audience) throw new errors.InvalidTarget();
      const publicKey = readJwk(public_jwk);
      const signed = { message, signature, ...(publicKey ? { publicKey } : {}) };
      const { account, key } = await authority.verify(signed).catch(asInvalidGrant);
      const held = scopesOf(account);
      const scopes = scope ? knownScopes(scope).filter((one) => held.includes(one)) : held;
      const token = new provider.AccessToken({
        accountId: account.owner,
        client: ctx.oidc.client,
        // No grant: there is nothing to refresh from or to revoke; the key can sign again.
        grantId: "",
        gty: CHALLENGE_GRANT,
        scope: scopes.join(" "),
      });
      token.resourceServer = new provider.ResourceServer(authority.audience, resourceServer(held));
      ctx.oidc.entity(SIGNER, key.id);
      ctx.oidc.entity("AccessToken", token);
      const value = await token.save();
      ctx.body = {
        access_token: value,
        expires_in: token.expiration,
        token_type: token.tokenType,
        scope: token.scope,
      };
    },
    [...PARAMETERS],
  );
}

function readJwk(text: string | undefined): object | undefined {
  if (text === undefined) return undefined;
  try {
    const value: unknown = text.length <= 1000 ? JSON.parse(text) : null;
    if (typeof value === "object" && value !== null && !Array.isArray(value)) return value;
  } catch {
    // The error below says it.
  }
  throw new errors.InvalidRequest("public_jwk is no public key in JSON");
}

/** A refused signature is an invalid grant; other errors keep their meaning. */
function asInvalidGrant(error: unknown): never {
  if (error instanceof FormationError && !error.retryable && error.code !== "limit") {
    throw new errors.InvalidGrant({ detail: error.message });
  }
  if (error instanceof FormationError) throw new errors.TemporarilyUnavailable(error.message);
  throw error;
}
