// An authority, or several, over one real SQLite file, with a clock that tests move.

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Authority, type AuthorityOptions, createAuthority } from "@formation-mcp/auth/authority";
import { type KeyPair, keyId, signMessage } from "@formation-mcp/auth/keys";
import type { Clock, Documents } from "@formation-mcp/contract";
import { openSqliteStore } from "@formation-mcp/operations/sqlite";
import { onTestFinished } from "vitest";

export const ISSUER = "https://vm.example.org";
export const AUDIENCE = `${ISSUER}/mcp`;
export const MASTER_KEY = new Uint8Array(32).fill(7);

export interface World {
  clock: Clock & { time: number };
  documents: Documents;
  /** Another server process over the same file: a store and an authority of its own. */
  server(options?: Partial<AuthorityOptions>): Promise<Authority>;
}

/** A fresh database, gone when the test is over. */
export async function world(): Promise<World> {
  const directory = mkdtempSync(join(tmpdir(), "authority-"));
  const path = join(directory, "formation.db");
  const clock = {
    time: Date.UTC(2026, 10, 23, 12),
    now: () => clock.time,
  };
  const first = await openSqliteStore({ path, clock });
  const stores = [first];
  onTestFinished(async () => {
    for (const store of stores) await store.close();
    rmSync(directory, { recursive: true, force: true });
  });
  return {
    clock,
    documents: first.documents,
    server: async (options = {}) => {
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
