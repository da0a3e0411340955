// The provider of the OAuth protocol: oidc-provider, made again after each rotation of the signing key.

import type { Scope } from "@formation-mcp/auth";
import type { Logger } from "@formation-mcp/contract";
import { Provider } from "oidc-provider";
import { registerChallengeGrant } from "./challenge-grant.ts";
import { type ConfigurationDeps, providerConfiguration } from "./configuration.ts";
import { listenToEvents } from "./events.ts";
import { ALGORITHM, resourceServer } from "./tokens.ts";

export interface ProviderDeps extends ConfigurationDeps {
  logger: Logger;
}

/** Returns the function to the provider with the newest signing keys. */
export function createProviders(deps: ProviderDeps): () => Promise<Provider> {
  let current: { version: number; provider: Provider } | undefined;
  return async () => {
    const { version, keys } = await deps.authority.signingKeys();
    if (current?.version !== version) current = { version, provider: createProvider(deps, keys) };
    return current.provider;
  };
}

function createProvider(deps: ProviderDeps, keys: readonly object[]): Provider {
  const { authority } = deps;
  const signingKeys = keys.map((key) => ({ ...key, use: "sig", alg: ALGORITHM }));
  const kid = (signingKeys[0] as { kid?: string } | undefined)?.kid;
  const resource = (scopes: readonly Scope[]) => resourceServer(authority.audience, kid, scopes);
  const provider = new Provider(authority.issuer, providerConfiguration(deps, signingKeys, resource));
  provider.proxy = true;
  registerChallengeGrant(provider, authority, resource);
  listenToEvents(provider, deps);
  return provider;
}
