// An authority, or several, over one real SQLite file, with a clock that tests move.

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Authority, type AuthorityOptions, createAuthority } from "@formation-mcp/auth/authority";
import { generateKey, type KeyPair, keyId, signMessage } from "@formation-mcp/auth/keys";
import { type Clock, type Documents, FormationError } from "@formation-mcp/contract";
import { openSqliteStore } from "@formation-mcp/operations/sqlite";
import { onTestFinished } from "vitest";

export const ISSUER = "https://vm.example.org";
export const AUDIENCE = `${ISSUER}/mcp`;
export const MASTER_KEY = new Uint8Array(32).fill(7);
export const SECOND = 1000;
export const MINUTE = 60 * SECOND;
export const DAY = 24 * 60 * MINUTE;

export interface World {
  clock: Clock & { time: number };
  documents: Documents;
  /** Another server process over the same file: a store and an authority of its own. */
  server(options?: Partial<AuthorityOptions>): Promise<Authority>;
  /** A server with an admin, and the admin's key. */
  founded(options?: Partial<AuthorityOptions>): Promise<{ authority: Authority; admin: KeyPair }>;
}

/** A fresh database, gone when the test is over, or when what `atEnd` is given is called. */
export async function world(atEnd: (close: () => Promise<void>) => void = onTestFinished): Promise<World> {
  const directory = mkdtempSync(join(tmpdir(), "authority-"));
  const path = join(directory, "formation.db");
  const clock = { time: Date.UTC(2026, 10, 23, 12), now: () => clock.time };
  const first = await openSqliteStore({ path, clock });
  const stores = [first];
  atEnd(async () => {
    for (const store of stores) await store.close();
    rmSync(directory, { recursive: true, force: true });
  });
  const server = async (options: Partial<AuthorityOptions> = {}) => {
    const store = await openSqliteStore({ path, clock });
    stores.push(store);
    return createAuthority({
      documents: store.documents,
      issuer: ISSUER,
      audience: AUDIENCE,
      masterKey: MASTER_KEY,
      clock,
      ...options,
    });
  };
  return {
    clock,
    documents: first.documents,
    server,
    founded: async (options) => {
      const authority = await server(options);
      const admin = generateKey("secp256k1");
      const token = (await authority.bootstrapToken()) ?? "";
      await authority.bootstrap(token, await signed(authority, admin));
      return { authority, admin };
    },
  };
}

/** A challenge of a server, signed. */
export async function signed(authority: Authority, key: KeyPair, statement?: string) {
  const { message } = await authority.challenge({
    address: keyId(key),
    ...(statement === undefined ? {} : { statement }),
  });
  return signMessage(key, message);
}

/** What a key is told by. */
export function told(key: KeyPair): { id: string; publicKey: object } {
  return { id: keyId(key), publicKey: key.publicJwk() };
}

/** How an action ended: `ok`, or the code of its FormationError. Anything else thrown is a failure. */
export async function outcome(action: Promise<unknown> | (() => Promise<unknown>)): Promise<string> {
  try {
    await (typeof action === "function" ? action() : action);
    return "ok";
  } catch (error) {
    if (error instanceof FormationError) return error.code;
    throw error;
  }
}
