import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  auditVerdict,
  describeTarget,
  exportAll,
  hasStore,
  importAll,
  newBootstrapToken,
  readHttpConfiguration,
} from "@formation-mcp/assembly/http";
import { silentLogger } from "@formation-mcp/contract";
import { afterEach, beforeEach, expect, test } from "vitest";

let dir: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), "formation-where-"));
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

const at = (stateDir: string, env: Record<string, string> = {}) =>
  readHttpConfiguration({ stateDir }, { FORMATION_MASTER_KEY_FILE: "", ...env });

test("a command that only looks makes no state directory where there is none, and says which it looked for", async () => {
  const nowhere = join(dir, "nowhere");
  for (const stateDir of [nowhere, dir]) {
    const refusal = {
      code: "not_found",
      message: expect.stringContaining(stateDir),
      details: { remedy: expect.stringContaining("FORMATION_STATE_DIR") },
    };
    await expect(auditVerdict(at(stateDir), silentLogger)).rejects.toMatchObject(refusal);
    await expect(exportAll(at(stateDir), join(dir, "out"), silentLogger)).rejects.toMatchObject(refusal);
    expect(hasStore(at(stateDir))).toBe(false);
  }
  expect([existsSync(nowhere), existsSync(join(dir, "out")), existsSync(join(dir, "formation.db"))]).toEqual([
    false,
    false,
    false,
  ]);
});

test("it looks at what is there", async () => {
  await newBootstrapToken(at(dir), "http://127.0.0.1:3010", silentLogger);
  expect(hasStore(at(dir))).toBe(true);
  expect(await auditVerdict(at(dir), silentLogger)).toMatchObject({ problems: [] });
  await exportAll(at(dir), join(dir, "out"), silentLogger);
  expect(existsSync(join(dir, "out", "records.ndjson"))).toBe(true);
});

test("what is no export is named before anything is made", async () => {
  const state = join(dir, "state");
  await expect(importAll(at(state), join(dir, "exprot"), silentLogger)).rejects.toMatchObject({
    code: "invalid",
    message: expect.stringMatching(/exprot is no export/),
    details: { remedy: expect.stringContaining("export --to") },
  });
  expect(existsSync(state)).toBe(false);
});

test("a person is told which database and which NATS, and no password", () => {
  expect(describeTarget(at(dir))).toBe(`SQLite in ${dir}/formation.db`);
  const shared = { masterKeyFile: null, nats: null };
  const url = "postgres://formation_server:hunter2@db.example.org/formation?sslmode=verify-full";
  const database = { url, passwordFile: null, poolSize: 1 };
  expect(describeTarget({ stateDir: dir, shared: { ...shared, database } })).toBe(
    "PostgreSQL at db.example.org:5432, database formation",
  );
  const nats = {
    servers: ["tls://a:4222", "tls://b:4222"],
    credentials: null,
    tls: null,
    replicas: 1 as const,
  };
  expect(describeTarget({ stateDir: dir, shared: { ...shared, database, nats } })).toMatch(
    /^PostgreSQL at .*, and NATS at tls:\/\/a:4222, tls:\/\/b:4222$/,
  );
});
