// The same tests over PostgreSQL and NATS: with FORMATION_TEST_SHARED every state directory of a test gets
// its own database and NATS account, like a cluster. `node test/shared.ts vitest run …` starts both servers
// and sets it.

import { execFileSync } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import {
  chownSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import type { Store } from "@formation-mcp/operations";
import { openPostgresStore } from "@formation-mcp/operations/postgres";
import { openSqliteStore } from "@formation-mcp/operations/sqlite";
import { waitFor } from "@formation-mcp/os";
import { connectNats } from "@formation-mcp/os/nats";
import { tryLock } from "@formation-mcp/os/sqlite";
import { Objm } from "@nats-io/obj";
import { migrate } from "./programs.ts";

/** What `test/shared.ts` has started. */
export interface SharedServices {
  /** Where this file keeps the assignments. */
  dir: string;
  postgres: { port: number; superuserPassword: string; serverPassword: string };
  /** One key for each account. */
  nats: { url: string; keys: string[] };
}

/**
 * The settings of the programs of a state directory: their records, and the secret with which servers seal
 * keys in them.
 */
export async function openKept(stateDir: string): Promise<{ store: Store; masterKey(): Uint8Array }> {
  const env = await sharedEnvironment(stateDir);
  const file = env["FORMATION_MASTER_KEY_FILE"];
  if (file === undefined) {
    const store = await openSqliteStore({ path: join(stateDir, "formation.db") });
    return { store, masterKey: () => readFileSync(join(stateDir, "server", "master.key")) };
  }
  const url = String(env["FORMATION_DATABASE_URL"]);
  const password = readFileSync(String(env["FORMATION_DATABASE_PASSWORD_FILE"]), "utf8");
  return {
    store: await openPostgresStore({ url, password, migrate: false }),
    masterKey: () => readFileSync(file),
  };
}

/** Every blob of the programs of a state directory, and every unfinished upload. */
export async function keptBlobs(stateDir: string): Promise<{ blobs: string[]; begun: string[] }> {
  const env = await sharedEnvironment(stateDir);
  const key = env["FORMATION_NATS_NKEY"];
  if (key === undefined) {
    const files = (name: string) => {
      const path = join(stateDir, "artifacts", name);
      return existsSync(path) ? readdirSync(path, { recursive: true }).map(String).sort() : [];
    };
    return { blobs: files("sha256").filter((name) => name.length > 60), begun: files("tmp") };
  }
  const connection = await connectNats({
    servers: [String(env["FORMATION_NATS_URL"])],
    credentials: { kind: "nkey", path: key },
    name: "test",
  });
  try {
    const bucket = await new Objm(connection).open("formation-blobs");
    const heads = await bucket.list();
    const whole = heads.map(({ nuid }) => `$O.formation-blobs.C.${nuid}`);
    const api = await connection.request(
      "$JS.API.STREAM.INFO.OBJ_formation-blobs",
      JSON.stringify({ subjects_filter: "$O.formation-blobs.C.>" }),
    );
    const { subjects = {} } = api.json<{ state: { subjects?: Record<string, number> } }>().state;
    return {
      blobs: heads.map(({ name }) => name).sort(),
      begun: Object.keys(subjects).filter((chunks) => !whole.includes(chunks)),
    };
  } finally {
    await connection.close();
  }
}

/**
 * The same settings for another user of this machine, with copies of the files in a directory of that user.
 */
export function lent(env: Record<string, string>, dir: string, uid: number): Record<string, string> {
  const copied = Object.entries(env).map(([name, value]) => {
    if (!/_(?:FILE|NKEY)$/.test(name)) return [name, value];
    const copy = join(dir, name.toLowerCase());
    copyFileSync(value, copy);
    chownSync(copy, uid, -1);
    return [name, copy];
  });
  return Object.fromEntries(copied) as Record<string, string>;
}

/** The additional settings of the programs of a state directory; none without FORMATION_TEST_SHARED. */
export async function sharedEnvironment(stateDir: string): Promise<Record<string, string>> {
  const text = process.env["FORMATION_TEST_SHARED"];
  if (!text) return {};
  const { dir, postgres, nats } = JSON.parse(text) as SharedServices;
  const name = `t_${createHash("sha256").update(stateDir).digest("hex").slice(0, 16)}`;
  const own = join(dir, name);
  const env = () => JSON.parse(readFileSync(join(own, "env.json"), "utf8")) as Record<string, string>;
  // Two servers of one test may start at the same time.
  using _lock = await waitFor(() => tryLock(join(dir, "lock")), { timeoutMs: 120_000, what: "the lock" });
  if (existsSync(join(own, "env.json"))) return env();
  mkdirSync(own, { mode: 0o700 });
  const taken = join(dir, "accounts");
  const account = existsSync(taken) ? Number(readFileSync(taken, "utf8")) : 0;
  writeFileSync(taken, String(account + 1));
  const key = nats.keys[account];
  if (key === undefined)
    throw new Error("More state directories than accounts: raise their number in test/shared.ts.");
  const files = { "master.key": randomBytes(32), password: postgres.serverPassword };
  for (const [file, content] of Object.entries(files))
    writeFileSync(join(own, file), content, { mode: 0o600 });
  const at = ["-h", "127.0.0.1", "-p", String(postgres.port), "-U", "postgres"];
  execFileSync(
    "psql",
    ["-X", "-q", ...at, "-c", `CREATE DATABASE ${name} OWNER formation_server TEMPLATE template0`],
    {
      env: { PATH: process.env["PATH"] ?? "", PGPASSWORD: postgres.superuserPassword },
    },
  );
  const made = {
    FORMATION_DATABASE_URL: `postgres://formation_server@127.0.0.1:${postgres.port}/${name}`,
    FORMATION_DATABASE_PASSWORD_FILE: join(own, "password"),
    FORMATION_DATABASE_POOL: "5",
    FORMATION_NATS_URL: nats.url,
    FORMATION_NATS_NKEY: key,
    FORMATION_MASTER_KEY_FILE: join(own, "master.key"),
    FORMATION_WORKER: "auto",
  };
  await migrate(made);
  writeFileSync(join(own, "env.json"), JSON.stringify(made), { mode: 0o600 });
  return made;
}
