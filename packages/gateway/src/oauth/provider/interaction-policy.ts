// When a person is asked: to sign in if no one is signed in; to consent if a scope was not granted before, or
// if the client is a program on the same computer, which another program could impersonate (RFC 8252 §8.6).

import type { Scope } from "@formation-mcp/auth";
import { interactionPolicy, type KoaContextWithOIDC, type interactionPolicy as Policy } from "oidc-provider";
import { knownScopes } from "./scopes.ts";

const { Check, Prompt } = interactionPolicy;

/** The requested scopes that the account has. */
export function grantable(asked: unknown, held: readonly Scope[]): Scope[] {
  return knownScopes(asked).filter((scope) => held.includes(scope));
}

/** The scopes that `findAccount` put into an account. */
export function accountScopes(account: unknown): readonly Scope[] {
  const scopes = (account as { scopes?: readonly Scope[] } | undefined)?.scopes;
  return scopes ?? [];
}

export function createInteractionPolicy(audience: string): Policy.DefaultPolicy {
  const policy = interactionPolicy.base();
  policy.clear();
  policy.add(
    new Prompt(
      { name: "login", requestable: true },
      new Check(
        "no_account",
        "a key has to sign in",
        (ctx: KoaContextWithOIDC) => ctx.oidc.account === undefined,
      ),
    ),
  );
  policy.add(
    new Prompt(
      { name: "consent", requestable: true },
      new Check(
        "native_client",
        "apps on a computer are asked about every time",
        (ctx: KoaContextWithOIDC) => {
          const { client, result } = ctx.oidc;
          return client?.applicationType === "native" && !result?.consent;
        },
      ),
      new Check("scopes_missing", "scopes were not granted before", (ctx: KoaContextWithOIDC) => {
        const { account, grant, params, result } = ctx.oidc;
        const asked = grantable(params?.["scope"], accountScopes(account));
        if (asked.length === 0) return !result?.consent;
        const granted = new Set(grant?.getResourceScope(audience).split(" "));
        return asked.some((scope) => !granted.has(scope));
      }),
    ),
  );
  return policy;
}
