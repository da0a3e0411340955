// Which token goes with a request. Signing in and renewing happen behind it: before the token expires, and
// once at a time, also among several programs that share one stored session.

import { FormationError } from "@formation-mcp/contract";
import { parseSession, type Session, signIn } from "./sign-in.ts";
import type { KeySource } from "./signer.ts";
import { cancelled } from "./sleep.ts";
import type { Wire } from "./wire.ts";

/** Where a session is kept beyond the life of its client. */
export interface SessionStorage {
  load(): Promise<Session | null> | Session | null;
  /** Null removes the session. */
  save(session: Session | null): Promise<void> | void;
  /**
   * Runs work while no other client that shares the storage runs such work. Clients that share a storage need
   * it, because a refresh token that is used twice ends the session.
   */
  withLock?<T>(work: () => Promise<T>): Promise<T>;
}

export interface SessionsOptions {
  wire: Wire;
  key?: KeySource | undefined;
  /** Scopes to ask for at sign-in. Default: all that the account has. */
  scopes?: readonly string[] | undefined;
  storage?: SessionStorage | undefined;
  now: () => number;
}

/** A token is renewed when it has no more than this left: a call may wait for that long. */
const RENEW_BEFORE_EXPIRY_MS = 90_000;
/** The server refuses the refresh token: only a new sign-in can help. */
const REFUSED_REFRESH: readonly string[] = ["unauthenticated", "forbidden", "invalid", "not_found"];

export interface Sessions {
  /**
   * A token with some time left before it expires.
   * @param options.refused a token that the server has refused
   * @throws FormationError `unauthenticated` if there is no session and no key
   */
  token(options: { signal?: AbortSignal | undefined; refused?: string }): Promise<string>;
  /** The session, or null before the first sign-in. */
  current(): Promise<Session | null>;
  /** Replaces the session, here and in the storage. Null ends it. */
  set(session: Session | null): Promise<void>;
}

export function createSessions({ wire, key, scopes, storage, now }: SessionsOptions): Sessions {
  let session: Session | null = null;
  let isLoaded = false;
  let renewing: Promise<Session> | null = null;

  const load = async () => {
    if (storage) session = await storage.load();
    isLoaded = true;
    return session;
  };
  const set = async (next: Session | null) => {
    session = next;
    isLoaded = true;
    await storage?.save(next);
  };
  const isUsable = (one: Session, refused: string | undefined) =>
    one.access_token !== refused && one.expires_at - now() > RENEW_BEFORE_EXPIRY_MS;

  async function renew(refused: string | undefined): Promise<Session> {
    const stored = await load(); // another program may have renewed it meanwhile
    if (stored && isUsable(stored, refused)) return stored;
    const refreshed = stored?.refresh_token ? await refresh(stored.refresh_token) : null;
    const renewed =
      refreshed ?? (key ? await signIn(wire, await key(), now, undefined, scopes ? { scopes } : {}) : null);
    if (!renewed) {
      await set(null);
      throw new FormationError("unauthenticated", `Nobody is signed in to ${wire.url}.`, {
        remedy: "Sign in with a key, or give an API token.",
      });
    }
    await set(renewed);
    return renewed;
  }

  /**
   * A new session, or null if only a sign-in can help. Never retried: using the token twice would end the
   * session.
   */
  async function refresh(refresh_token: string): Promise<Session | null> {
    try {
      const response = await wire.send({
        method: "POST",
        path: "/api/auth/refresh",
        json: { refresh_token },
        repeatable: false,
      });
      return parseSession(response, now);
    } catch (error) {
      const { code } = FormationError.from(error);
      if (REFUSED_REFRESH.includes(code)) return null;
      // The response may be lost while the token is used up. A key can sign in again.
      if (key && code === "unavailable") return null;
      throw error;
    }
  }

  return {
    async token({ signal, refused }) {
      const known = isLoaded ? session : await load();
      if (known && isUsable(known, refused)) return known.access_token;
      renewing ??= (storage?.withLock ? storage.withLock(() => renew(refused)) : renew(refused)).finally(
        () => {
          renewing = null;
        },
      );
      return (await unlessAborted(renewing, signal)).access_token;
    },
    current: async () => (isLoaded ? session : await load()),
    set,
  };
}

/**
 * The result of shared work.
 * @throws FormationError `cancelled` as soon as the signal is aborted; the work goes on
 */
async function unlessAborted<T>(work: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (!signal) return work;
  let stop = () => {};
  const aborted = new Promise<never>((_, reject) => {
    stop = () => reject(cancelled());
    if (signal.aborted) stop();
    signal.addEventListener("abort", stop, { once: true });
  });
  try {
    return await Promise.race([work, aborted]);
  } finally {
    signal.removeEventListener("abort", stop);
  }
}
