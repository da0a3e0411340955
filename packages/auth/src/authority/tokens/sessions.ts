// Sessions: what a sign-in began and refresh tokens keep alive. A session is one document that counts how often it was
// renewed; a refresh token is that number and a MAC over it under the master key and the session's own seed, so nothing
// that could be stolen from the database is a token, nor becomes one.
//
// Reuse (RFC 9700 §4.14.2): an older number ends the session, for one of two holders is a thief. The one exception is the
// number before the current one, for ten seconds: an honest client that lost the reply, or asked twice at once, gets the
// same successor again. That gives a thief nothing that rotation alone would not: there is still one living token, and
// whoever of the two comes later than that ends the session for both.

import { type Clock, type Documents, LIMITS, type Logger } from "@formation-mcp/contract";
import type { Scope } from "../../principals/principal.ts";
import { type Accounts, grantable, inOrder, isConflict } from "../accounts/accounts.ts";
import type { Mint } from "./issue-access-token.ts";
import { everyOf } from "../storage/list-all.ts";
import { lastRevoked, type Revocations, standsBehind } from "./revocation-list.ts";
import { refused, type Secrets, sameSecret } from "../storage/secrets.ts";
import type { Account, TokenPair } from "../types.ts";

const KIND = "refresh";
const GRACE_MS = 10_000;
const TRIES = 8;
const TOKEN = /^fmr_([0-9a-f]{32})_(\d{1,9})_([A-Za-z0-9_-]{43})$/;

interface Session {
  /** How often it was renewed. */
  turn: number;
  turned_at: number;
  started_at: number;
  seed: string;
  scopes: Scope[];
  key: string;
}

export interface Sessions {
  begin(account: Account, keyId: string, scopes: ReadonlySet<Scope>, now: number): Promise<TokenPair>;
  refresh(token: string): Promise<TokenPair>;
  /** Ends a session with all its tokens. False if the owner has no such session. */
  end(owner: string, family: string): Promise<boolean>;
  /** Ends the session of a refresh token, and says whose it was; null if the text is none. */
  endBy(token: string): Promise<string | null>;
  /** Ends those that a key began. */
  endOfKey(owner: string, keyId: string): Promise<void>;
}

export function sessionsIn(
  documents: Documents,
  parts: {
    accounts: Accounts;
    revocations: Revocations;
    mint: Mint;
    secrets: Secrets;
    clock: Clock;
    logger: Logger;
  },
): Sessions {
  const { accounts, revocations, mint, secrets, clock, logger } = parts;

  const tokenOf = (family: string, turn: number, seed: string) =>
    `fmr_${family.slice(4)}_${turn}_${secrets.mac(KIND, family, String(turn), seed)}`;

  /** The session and turn of a token that is genuine, whatever its age. */
  const find = async (token: string) => {
    const [, id, digits] = (token.length < 128 && TOKEN.exec(token)) || [];
    const stored = id === undefined ? null : await documents.get<Session>(KIND, `ses_${id}`);
    if (!stored || stored.owner === null) return null;
    const turn = Number(digits);
    if (!sameSecret(token, tokenOf(stored.id, turn, stored.doc.seed))) return null;
    return { turn, stored, owner: stored.owner };
  };

  const end = async (owner: string, family: string): Promise<boolean> => {
    const stored = await documents.get<Session>(KIND, family);
    if (stored?.owner !== owner) return false;
    await revocations.add(owner, family);
    await documents.remove(KIND, family);
    return true;
  };

  const pair = async (
    account: Account,
    family: string,
    session: Session,
    now: number,
  ): Promise<TokenPair> => {
    const has = grantable(account);
    const minted = await mint({
      account,
      jti: `${family}.${Buffer.from(secrets.random(12)).toString("base64url")}`,
      scopes: new Set(session.scopes.filter((scope) => has.has(scope))),
      keyId: session.key,
      family,
      now,
    });
    return { ...minted, refresh_token: tokenOf(family, session.turn, session.seed) };
  };

  return {
    end,
    begin: async (account, keyId, scopes, now) => {
      const family = `ses_${Buffer.from(secrets.random(16)).toString("hex")}`;
      const session: Session = {
        turn: 0,
        turned_at: now,
        started_at: Math.max(now, lastRevoked(account, keyId) + 1),
        seed: Buffer.from(secrets.random(32)).toString("base64url"),
        scopes: inOrder(scopes),
        key: keyId,
      };
      await documents.put(
        {
          kind: KIND,
          id: family,
          group: family,
          owner: account.owner,
          doc: session,
          expires_at: now + LIMITS.refreshTokenMs,
        },
        0,
      );
      return pair(account, family, session, now);
    },
    refresh: async (token) => {
      for (let tries = 1; ; tries++) {
        const found = await find(token);
        if (!found) throw refused();
        const { turn, stored, owner } = found;
        const { id: family, doc: session, version } = stored;
        const now = clock.now();
        const account = await accounts.get(owner);
        if (!account || !standsBehind(account, session.started_at, session.key)) {
          await end(owner, family);
          throw refused();
        }
        if (turn === session.turn - 1 && now - session.turned_at <= GRACE_MS) {
          return pair(account, family, session, now);
        }
        if (turn !== session.turn) {
          await end(owner, family);
          logger.log("warn", "A refresh token was used twice: its session was ended.", { owner, family });
          throw refused();
        }
        const next = { ...session, turn: turn + 1, turned_at: now };
        const expires_at = now + LIMITS.refreshTokenMs;
        try {
          await documents.put(
            { kind: KIND, id: family, group: family, owner, doc: next, expires_at },
            version,
          );
        } catch (error) {
          if (isConflict(error) && tries < TRIES) continue;
          throw error;
        }
        return pair(account, family, next, now);
      }
    },
    endBy: async (token) => {
      const found = await find(token);
      if (found) await end(found.owner, found.stored.id);
      return found?.owner ?? null;
    },
    endOfKey: async (owner, keyId) => {
      for (const { id, doc } of await everyOf<Session>(documents, KIND, owner)) {
        if (doc.key === keyId) await documents.remove(KIND, id);
      }
    },
  };
}
