// Which token goes with a request. Signing in and renewing happen behind it: early, one at a time, also among several
// programs that keep their session in one place.

import { FormationError } from "@formation-mcp/contract";
import { isObject } from "./errors.ts";
import type { KeySource, Signer } from "./signer.ts";
import type { Wire } from "./wire.ts";

/** What a sign-in gave. Whoever has it may do what it says: keep it as a secret. */
export interface Session {
  access_token: string;
  /** Milliseconds since the epoch. */
  expires_at: number;
  refresh_token: string | null;
  scopes: string[];
  owner: string;
}

/** Where a session outlives its client. */
export interface SessionStorage {
  load(): Promise<Session | null> | Session | null;
  save(session: Session | null): Promise<void> | void;
  /** Runs work alone among all who share the place: a refresh token used twice ends the session. */
  alone?<T>(work: () => Promise<T>): Promise<T>;
}

export interface SessionsOptions {
  wire: Wire;
  key?: KeySource | undefined;
  /** What to ask for at sign-in; all that the account has by default. */
  scopes?: readonly string[] | undefined;
  storage?: SessionStorage | undefined;
  now: () => number;
}

/** A token is renewed when it has no more than this to live: a call may wait for so long. */
const EARLY_MS = 90_000;

export interface Sessions {
  /** A token that lives for a while yet; `refused` is one that the server would not take. */
  token(options: { signal?: AbortSignal | undefined; refused?: string }): Promise<string>;
  /** What the token is for; null before the first. */
  current(): Promise<Session | null>;
  /** Puts a session in place, or none. */
  keep(session: Session | null): Promise<void>;
}

export function createSessions({ wire, key, scopes, storage, now }: SessionsOptions): Sessions {
  let session: Session | null = null;
  let loaded = false;
  let renewing: Promise<Session> | null = null;

  const load = async () => {
    if (storage) session = await storage.load();
    loaded = true;
    return session;
  };
  const keep = async (made: Session | null) => {
    session = made;
    loaded = true;
    await storage?.save(made);
  };
  const good = (one: Session, refused: string | undefined) =>
    one.access_token !== refused && one.expires_at - now() > EARLY_MS;

  async function renew(refused: string | undefined): Promise<Session> {
    const stored = await load(); // another program may have renewed it meanwhile
    if (stored && good(stored, refused)) return stored;
    const refreshed = stored?.refresh_token ? await refresh(stored.refresh_token) : null;
    const made =
      refreshed ?? (key ? await signIn(wire, await key(), now, undefined, scopes ? { scopes } : {}) : null);
    if (!made) {
      await keep(null);
      throw new FormationError("unauthenticated", `Nobody is signed in to ${wire.url}.`, {
        remedy: "Sign in with a key, or give an API token.",
      });
    }
    await keep(made);
    return made;
  }

  /** A new session, or null if the server takes the token no more. Sent once: a second time would end the session. */
  async function refresh(refresh_token: string): Promise<Session | null> {
    try {
      const said = await wire.send({
        method: "POST",
        path: "/api/auth/refresh",
        json: { refresh_token },
        repeatable: false,
      });
      return sessionOf(said, now);
    } catch (error) {
      const { code } = FormationError.from(error);
      if (["unauthenticated", "forbidden", "invalid", "not_found"].includes(code)) return null;
      // The answer may be lost while the token is used up; a key gets in anyway.
      if (key && code === "unavailable") return null;
      throw error;
    }
  }

  return {
    async token({ signal, refused }) {
      const known = loaded ? session : await load();
      if (known && good(known, refused)) return known.access_token;
      renewing ??= (storage?.alone ? storage.alone(() => renew(refused)) : renew(refused)).finally(() => {
        renewing = null;
      });
      return (await orAborted(renewing, signal)).access_token;
    },
    current: async () => (loaded ? session : await load()),
    keep,
  };
}

/** Asks for a challenge, has it signed, and shows the signature; `more` goes along. */
export async function signIn(
  wire: Wire,
  key: Signer,
  now: () => number,
  path = "/api/auth/login",
  more: object = {},
): Promise<Session> {
  const signed = await answerChallenge(wire, key, now);
  const said = await wire.send({ method: "POST", path, json: { ...signed, ...more }, repeatable: false });
  return sessionOf(said, now);
}

/** A challenge of the server with the key's signature, as sign-in routes take it. */
async function answerChallenge(wire: Wire, key: Signer, now: () => number): Promise<object> {
  const said = await wire.send({
    method: "GET",
    path: "/api/auth/challenge",
    query: { address: key.id },
    repeatable: true,
  });
  const message = isObject(said) ? said["message"] : undefined;
  const { signature, publicKey } = await signFor(wire.url, key, message, now);
  const known = publicKey === undefined ? {} : { public_key: publicKey };
  return { address: key.id, signed_message: message, signature, ...known };
}

/**
 * Signs a challenge of a server, if it is one: for this server and this key. Whoever signed one that is meant for another
 * place would let this server sign in there.
 * @param statement what its sentence must be.
 * @throws FormationError `invalid`
 */
export async function signFor(
  url: string,
  key: Signer,
  message: unknown,
  now: () => number,
  statement?: string,
): Promise<{ signature: string; publicKey?: object }> {
  const { readChallenge } = await import("@formation-mcp/auth/keys"); // who has a token needs no curves
  if (typeof message !== "string") throw strange(url);
  const read = readChallenge(message, { issuer: url, keyId: key.id, now: now() });
  if (statement !== undefined && read.statement !== statement) {
    throw new FormationError("invalid", `${url} asks to sign something else than it showed.`, {
      remedy: "Do not sign it.",
      field: "message",
    });
  }
  return key.sign(message);
}

/** Reads what a sign-in or a renewal answers. */
function sessionOf(said: unknown, now: () => number): Session {
  const data = isObject(said) ? said : {};
  const token = data["access_token"] ?? data["token"];
  const refresh = data["refresh_token"];
  const scopes = data["scope"] ?? data["permissions"];
  const owner = data["owner"] ?? data["user_id"];
  const seconds = Number(data["expires_in"]);
  const at = Number(data["expires_at"]) * 1000;
  if (typeof token !== "string" || token === "") throw strange("The server");
  return {
    access_token: token,
    // The server's span is better than its time: clocks differ.
    expires_at: Number.isFinite(seconds)
      ? now() + seconds * 1000
      : Number.isFinite(at)
        ? at
        : now() + 600_000,
    refresh_token: typeof refresh === "string" ? refresh : null,
    scopes: scopesOf(scopes),
    owner: typeof owner === "string" ? owner : "",
  };
}

export function scopesOf(value: unknown): string[] {
  if (typeof value === "string") return value.split(" ").filter((scope) => scope !== "");
  return Array.isArray(value) ? value.filter((scope) => typeof scope === "string") : [];
}

function strange(who: string): FormationError {
  return new FormationError("unavailable", `${who} answered a sign-in with something else.`, {
    remedy: "Check that the URL is a Formation server's.",
  });
}

async function orAborted<T>(work: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (!signal) return work;
  let stop = () => {};
  const aborted = new Promise<never>((_, reject) => {
    stop = () => reject(new FormationError("cancelled", "The call was cancelled."));
    if (signal.aborted) stop();
    signal.addEventListener("abort", stop, { once: true });
  });
  try {
    return await Promise.race([work, aborted]);
  } finally {
    signal.removeEventListener("abort", stop);
  }
}
