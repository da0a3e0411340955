// The parts of an authority, made from its options, that its operations are written with.

import {
  type Clock,
  type Documents,
  FormationError,
  type Logger,
  silentLogger,
  systemClock,
} from "@formation-mcp/contract";
import { type Accounts, createAccounts } from "./accounts/accounts.ts";
import { type Bootstrap, createBootstrap } from "./accounts/bootstrap.ts";
import { type Challenges, createChallenges } from "./challenges.ts";
import { createSecrets, type Secrets } from "./storage/secrets.ts";
import { createAccessTokens } from "./tokens/access-tokens.ts";
import { type ApiTokens, createApiTokens } from "./tokens/api-tokens.ts";
import { type BearerAuthenticator, createBearerAuthenticator } from "./tokens/bearer-authenticator.ts";
import { createAccessTokenIssuer, type IssueAccessToken } from "./tokens/issue-access-token.ts";
import { createRevocationList, type RevocationList } from "./tokens/revocation-list.ts";
import { createSessions, type Sessions } from "./tokens/sessions.ts";
import { createSigningKeys, type SigningKeys } from "./tokens/signing-keys.ts";
import type { AuthorityOptions } from "./types.ts";

export interface AuthorityDeps {
  documents: Documents;
  clock: Clock;
  logger: Logger;
  secrets: Secrets;
  accounts: Accounts;
  apiTokens: ApiTokens;
  bearers: BearerAuthenticator;
  bootstrap: Bootstrap;
  challenges: Challenges;
  issueAccessToken: IssueAccessToken;
  revocations: RevocationList;
  sessions: Sessions;
  signingKeys: SigningKeys;
}

/** @throws FormationError `invalid` if the issuer is no origin or the master key is not 32 bytes. */
export function createAuthorityDeps(options: AuthorityOptions): AuthorityDeps {
  const { documents, issuer, audience, clock = systemClock, logger = silentLogger } = options;
  checkIssuer(issuer);
  const secrets = createSecrets(options.masterKey, options.random ?? platformRandom);
  const signingKeys = createSigningKeys(documents, secrets, clock);
  const tokens = createAccessTokens(signingKeys, { issuer, audience }, clock);
  const accounts = createAccounts(documents, clock);
  const revocations = createRevocationList(documents, clock);
  const challenges = createChallenges({ documents, issuer, secrets, clock, jwkOf: accounts.jwkOf });
  const apiTokens = createApiTokens(documents, revocations, secrets, clock);
  const issueAccessToken = createAccessTokenIssuer(tokens);
  const common = { documents, clock, logger, secrets, accounts, revocations };
  const sessions = createSessions({ ...common, issueAccessToken });
  const bearers = createBearerAuthenticator({ ...common, tokens, apiTokens });
  const bootstrap = createBootstrap(documents, secrets, clock);
  return { ...common, apiTokens, bearers, bootstrap, challenges, issueAccessToken, sessions, signingKeys };
}

/** Waits for a change of an owner's rights, and makes it effective in this process at once. */
export async function applyAtOnce<T>(
  { bearers }: Pick<AuthorityDeps, "bearers">,
  owner: string,
  change: Promise<T>,
): Promise<T> {
  try {
    return await change;
  } finally {
    bearers.forget(owner);
  }
}

function checkIssuer(issuer: string): void {
  if (URL.canParse(issuer) && new URL(issuer).origin === issuer) return;
  throw new FormationError("invalid", "The issuer is no origin.", {
    remedy: "Give scheme, host and port without a slash at the end: https://vm.example.org.",
    field: "issuer",
  });
}

function platformRandom(bytes: number): Uint8Array {
  return crypto.getRandomValues(new Uint8Array(bytes));
}
