// Runs a command with PostgreSQL and NATS for the tests that it starts: `node --conditions=formation-source
// test/shared.ts vitest run --project system test/http`. Programs of those tests keep their records, wake-ups
// and artifacts there.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { appendFileSync, chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createNatsKey } from "@formation-mcp/os/nats";
import { startNats } from "../examples/cluster/nats.ts";
import { startPostgres } from "../examples/cluster/postgres.ts";
import type { SharedServices } from "./support/shared.ts";

const ACCOUNTS = 200;
const say = (text: string) => void process.stderr.write(`${text}\n`);
const root = mkdtempSync(join(tmpdir(), "fs-"));
chmodSync(root, 0o711);
const dir = join(root, "given");
mkdirSync(dir, { mode: 0o700 });
const keys = Array.from({ length: ACCOUNTS }, (_, i) => join(dir, `account-${i}.nk`));
const publicKeys = keys.map((path) => createNatsKey(path));
// Each account has separate streams, so that tests do not receive messages of other tests.
const accounts = publicKeys.map((key, i) => `t${i}: { jetstream: enabled, users: [{ nkey: ${key} }] }`);
const nats = await startNats(
  root,
  { servers: [], workers: [] },
  say,
  `accounts {\n${accounts.join("\n")}\n}`,
);
const postgres = await startPostgres(root, say);
// Each test has a separate database, which deploy/postgres does not know.
appendFileSync(
  join(root, "postgres/data/pg_hba.conf"),
  "host all formation_server 127.0.0.1/32 scram-sha-256\n",
);
postgres.program().signal("SIGHUP");
const secret = (path: string) => readFileSync(path, "utf8").trim();
const shared: SharedServices = {
  dir,
  postgres: {
    port: postgres.port,
    superuserPassword: secret(join(root, "postgres/password")),
    serverPassword: secret(postgres.passwordFiles.server),
  },
  nats: { url: nats.url, keys },
};
const [file = "", ...args] = process.argv.slice(2);
const child = spawn(file, args, {
  stdio: "inherit",
  env: { ...process.env, FORMATION_TEST_SHARED: JSON.stringify(shared) },
});
for (const signal of ["SIGINT", "SIGTERM"] as const) process.on(signal, () => child.kill(signal));
const [code] = (await once(child, "exit")) as [number | null];
await postgres.stop();
await nats.stop();
rmSync(root, { recursive: true, force: true });
process.exitCode = code ?? 1;
