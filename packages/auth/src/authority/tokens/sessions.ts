// Sessions: a sign-in begins one, and refresh tokens keep it alive. A session is one document that counts how
// many times it was refreshed. A refresh token is that number and a MAC over it under the master key and the
// session's own seed, so nothing that could be stolen from the database is a token, or can be turned into
// one.
//
// Reuse (RFC 9700 §4.14.2): a token with an older number ends the session, because one of its two holders is
// a thief. The one exception is the number before the current one, for ten seconds: an honest client that
// lost the response, or that asked twice at once, gets the same successor again. A thief gains nothing by
// this: there is still only one valid token, and presenting an old one after that time ends the session for
// both holders.

import {
  type Clock,
  type Documents,
  LIMITS,
  type Logger,
  type StoredDocument,
} from "@formation-mcp/contract";
import { type Scope, sortScopes } from "../../principals/scopes.ts";
import type { Accounts } from "../accounts/accounts.ts";
import { allowedScopes, isGrantValid, lastRevoked } from "../accounts/grants.ts";
import type { Account } from "../accounts/types.ts";
import { isConflict, listAll } from "../storage/documents.ts";
import { invalidToken, type Secrets, sameSecret } from "../storage/secrets.ts";
import type { IssueAccessToken } from "./issue-access-token.ts";
import type { RevocationList } from "./revocation-list.ts";
import type { TokenPair } from "./types.ts";

const KIND = "refresh";
const REUSE_GRACE_MS = 10_000;
const MAX_WRITE_TRIES = 8;
const TOKEN = /^fmr_([0-9a-f]{32})_(\d{1,9})_([A-Za-z0-9_-]{43})$/;

/** The stored document. Its id, `ses_…`, is the family of the session's tokens. Times are milliseconds. */
interface Session {
  /** How many times it was refreshed. */
  turn: number;
  turned_at: number;
  started_at: number;
  seed: string;
  scopes: Scope[];
  key: string;
}

export interface Sessions {
  /** @param now milliseconds, read before the account was read. */
  begin(account: Account, keyId: string, scopes: ReadonlySet<Scope>, now: number): Promise<TokenPair>;
  /** @throws FormationError `unauthenticated` */
  refresh(token: string): Promise<TokenPair>;
  /** Ends a session and revokes its access tokens. False if the owner has no such session. */
  end(owner: string, family: string): Promise<boolean>;
  /** Ends the session of a refresh token and returns its owner; null if the token is not genuine. */
  endByRefreshToken(token: string): Promise<string | null>;
  /** Ends the sessions that a key began. */
  endOfKey(owner: string, keyId: string): Promise<void>;
}

export interface SessionDeps {
  documents: Documents;
  accounts: Accounts;
  revocations: RevocationList;
  issueAccessToken: IssueAccessToken;
  secrets: Secrets;
  clock: Clock;
  logger: Logger;
}

export function createSessions(deps: SessionDeps): Sessions {
  const { documents, secrets } = deps;
  return {
    end: (owner, family) => endSession(deps, owner, family),
    begin: async (account, keyId, scopes, now) => {
      const family = `ses_${Buffer.from(secrets.random(16)).toString("hex")}`;
      const session: Session = {
        turn: 0,
        turned_at: now,
        started_at: Math.max(now, lastRevoked(account, keyId) + 1),
        seed: Buffer.from(secrets.random(32)).toString("base64url"),
        scopes: sortScopes(scopes),
        key: keyId,
      };
      await writeSession(documents, { family, owner: account.owner, session, now, version: 0 });
      return tokenPair(deps, account, family, session, now);
    },
    refresh: (token) => refresh(deps, token),
    endByRefreshToken: async (token) => {
      const found = await findSession(deps, token);
      if (found) await endSession(deps, found.owner, found.stored.id);
      return found?.owner ?? null;
    },
    endOfKey: async (owner, keyId) => {
      for (const { id, doc } of await listAll<Session>(documents, KIND, owner)) {
        if (doc.key === keyId) await documents.remove(KIND, id);
      }
    },
  };
}

async function refresh(deps: SessionDeps, token: string): Promise<TokenPair> {
  const { documents, accounts, clock, logger } = deps;
  for (let tries = 1; ; tries++) {
    const found = await findSession(deps, token);
    if (!found) throw invalidToken();
    const { turn, stored, owner } = found;
    const { id: family, doc: session, version } = stored;
    const now = clock.now();
    const account = await accounts.get(owner);
    if (!account || !isGrantValid(account, session.started_at, session.key)) {
      await endSession(deps, owner, family);
      throw invalidToken();
    }
    if (turn === session.turn - 1 && now - session.turned_at <= REUSE_GRACE_MS) {
      return tokenPair(deps, account, family, session, now);
    }
    if (turn !== session.turn) {
      await endSession(deps, owner, family);
      logger.log("warn", "A refresh token was used twice: its session was ended.", { owner, family });
      throw invalidToken();
    }
    const next = { ...session, turn: turn + 1, turned_at: now };
    try {
      await writeSession(documents, { family, owner, session: next, now, version });
    } catch (error) {
      if (isConflict(error) && tries < MAX_WRITE_TRIES) continue;
      throw error;
    }
    return tokenPair(deps, account, family, next, now);
  }
}

async function endSession(deps: SessionDeps, owner: string, family: string): Promise<boolean> {
  const { documents, revocations } = deps;
  const stored = await documents.get<Session>(KIND, family);
  if (stored?.owner !== owner) return false;
  await revocations.add(owner, family);
  await documents.remove(KIND, family);
  return true;
}

/** The session and the number of a refresh token that is genuine, however old it is. */
async function findSession(
  { documents, secrets }: SessionDeps,
  token: string,
): Promise<{ turn: number; stored: StoredDocument<Session>; owner: string } | null> {
  const [, id, digits] = (token.length < 128 && TOKEN.exec(token)) || [];
  const stored = id === undefined ? null : await documents.get<Session>(KIND, `ses_${id}`);
  if (!stored || stored.owner === null) return null;
  const turn = Number(digits);
  if (!sameSecret(token, refreshToken(secrets, stored.id, turn, stored.doc.seed))) return null;
  return { turn, stored, owner: stored.owner };
}

async function writeSession(
  documents: Documents,
  write: { family: string; owner: string; session: Session; now: number; version: number },
): Promise<void> {
  const { family, owner, session: doc, now, version } = write;
  const expires_at = now + LIMITS.refreshTokenMs;
  await documents.put({ kind: KIND, id: family, group: family, owner, doc, expires_at }, version);
}

async function tokenPair(
  { issueAccessToken, secrets }: SessionDeps,
  account: Account,
  family: string,
  session: Session,
  now: number,
): Promise<TokenPair> {
  const issued = await issueAccessToken({
    account,
    jti: `${family}.${Buffer.from(secrets.random(12)).toString("base64url")}`,
    scopes: allowedScopes(account, session.scopes),
    keyId: session.key,
    family,
    now,
  });
  return { ...issued, refresh_token: refreshToken(secrets, family, session.turn, session.seed) };
}

function refreshToken(secrets: Secrets, family: string, turn: number, seed: string): string {
  return `fmr_${family.slice(4)}_${turn}_${secrets.mac(KIND, family, String(turn), seed)}`;
}
