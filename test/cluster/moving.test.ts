// @module-tag root
// @module-tag postgres
// @module-tag nats
// @module-tag bundles

// A team that outgrows one machine: the state of its server is exported and imported into PostgreSQL and
// NATS. Accounts, tokens, records, logs and contexts are the same, and the VM goes on running. A pg_dump also
// holds all of it.

import { execFile } from "node:child_process";
import { chmodSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { waitFor } from "@formation-mcp/os";
import { afterAll, beforeAll, expect, test } from "vitest";
import { startNats } from "../../examples/cluster/nats.ts";
import { type Postgres, startPostgres } from "../../examples/cluster/postgres.ts";
import { type Program, start, until } from "../../examples/cluster/processes.ts";
import { PROGRAMS } from "../support/cluster.ts";
import { becomeAdmin, newUser, type Person, restData, signIn } from "../support/http/people.ts";
import { httpEnvironment, startHttp } from "../support/http/server.ts";
import { dismissWorker, temporaryState } from "../support/server.ts";

const say = () => {};
const old = temporaryState();
const root = mkdtempSync(join(tmpdir(), "fm-"));
const closing: (() => Promise<unknown>)[] = [];
let postgres: Postgres;
let env: Record<string, string>;

const http = async (args: string[], settings: Record<string, string>) => {
  const [file = "", ...words] = PROGRAMS.http;
  return (await promisify(execFile)(file, [...words, ...args], { env: settings })).stdout;
};

beforeAll(async () => {
  chmodSync(root, 0o711);
  const key = join(root, "server.nk");
  const servers = [await http(["nats-user", "--key", key], httpEnvironment(join(root, "new")))];
  const nats = await startNats(root, { servers, workers: [] }, say);
  closing.push(() => nats.stop());
  postgres = await startPostgres(root, say);
  closing.push(() => postgres.stop());
  env = httpEnvironment(join(root, "new"), {
    FORMATION_DATABASE_URL: postgres.urls.server,
    FORMATION_DATABASE_PASSWORD_FILE: postgres.passwordFiles.server,
    FORMATION_NATS_URL: nats.url,
    FORMATION_NATS_NKEY: key,
    FORMATION_MASTER_KEY_FILE: join(root, "master.key"),
  });
});
afterAll(async () => {
  for (const close of closing.reverse()) await close();
  await old.close();
  rmSync(root, { recursive: true, force: true });
});

async function serve(): Promise<{ url: string; program: Program }> {
  const [file = "", ...args] = PROGRAMS.http;
  const program = start("server", { file, args, env });
  closing.push(() => program.stop());
  const url = await until(() => / listens: (\S+)\n/.exec(program.output())?.[1], {
    what: "it",
    say,
    program,
  });
  return { url, program };
}

const call = (url: string, tool: string, parameters: Record<string, unknown>, token: string) =>
  restData(url, "POST", `/api/tools/${tool}`, { token, body: { parameters } });

/** What the user sees, as far as it must be the same in the new place. */
async function has(url: string, token: string, build_id: unknown): Promise<Record<string, unknown>> {
  const { builds } = await call(url, "build_list", {}, token);
  const { instances } = await call(url, "vm_list", {}, token);
  const { log } = await call(url, "build_get", { build_id }, token);
  const [instance] = instances as Record<string, unknown>[];
  // The fence marks of untrusted text are random for each result.
  const lines = String(log).split("\n").slice(1, -1);
  return { builds, lines, name: instance?.["name"], state: instance?.["state"] };
}

test("what one machine kept is moved whole, and nobody is signed out", async () => {
  const before = await startHttp({ stateDir: old.dir });
  const admin = await becomeAdmin(before.url, await before.bootstrapToken(), "ed25519");
  const user: Person = await newUser(before.url, admin);
  const made = await restData(before.url, "POST", "/api/tokens", {
    token: user.token,
    body: { name: "ci", expires_in_seconds: 3600 },
  });
  const built = await call(
    before.url,
    "pack_build",
    {
      formfile: {
        from: "busybox",
        name: "moved",
        include: ["a"],
        run: ["cat a"],
        entrypoint: ["sleep", "1000"],
      },
      context_files: { a: "the context's words\n" },
      wait_seconds: 45,
    },
    user.token,
  );
  await call(
    before.url,
    "pack_ship",
    { build_id: built["build_id"], instance_name: "moved", wait_seconds: 45 },
    user.token,
  );
  const had = await has(before.url, user.token, built["build_id"]);
  expect(had).toMatchObject({
    name: "moved",
    state: "running",
    lines: expect.arrayContaining(["the context's words"]),
  });
  expect(await before.stop()).toBe(0);
  await dismissWorker(old.dir);

  const to = join(root, "export");
  const wrote = await http(["export", "--to", to], httpEnvironment(old.dir));
  expect(wrote).toMatch(/^wrote \d+ records, [1-9]\d* blobs, [1-9]\d* logs\n$/);
  writeFileSync(join(root, "master.key"), readFileSync(join(old.dir, "server/master.key")), { mode: 0o600 });
  await http(["migrate"], env);
  expect(await http(["import", "--from", to], env)).toBe(wrote.replace("wrote", "read"));
  await expect(http(["import", "--from", to], env), "twice").rejects.toThrow();

  const after = await serve();
  expect(after.program.output(), "there is an admin").not.toContain("--bootstrap");
  const again = await signIn(after.url, user.key);
  expect(await has(after.url, again.token, built["build_id"])).toEqual(had);
  const who = await restData(after.url, "GET", "/api/auth/whoami", { token: String(made["token"]) });
  expect(who["user_id"]).toBe(user.id);
  await after.program.stop();
});

test("a changed blob is not imported", async () => {
  const from = join(root, "export");
  const [blob = ""] = readdirSync(join(from, "blobs"));
  writeFileSync(join(from, "blobs", blob), "something else");
  await expect(http(["import", "--from", from], httpEnvironment(join(root, "third")))).rejects.toThrow(
    /The content is sha256:/,
  );
});

test("a dump of the database is all of it again, in a database that roles.sql made", async () => {
  const superuser = {
    PATH: process.env["PATH"] ?? "",
    PGPASSWORD: readFileSync(join(root, "postgres/password"), "utf8").trim(),
  };
  const at = ["-h", "127.0.0.1", "-p", String(postgres.port), "-U", "postgres"];
  const run = (file: string, ...args: string[]) => promisify(execFile)(file, [...args], { env: superuser });
  const dump = join(root, "formation.dump");
  await run("pg_dump", ...at, "-Fc", "-f", dump, "formation");
  await run("psql", ...at, "-q", "-c", "DROP DATABASE formation");
  await run("psql", ...at, "-q", "-c", "CREATE DATABASE formation OWNER formation_server TEMPLATE template0");
  await run("pg_restore", ...at, "--exit-on-error", "-d", "formation", dump);
  await http(["migrate"], env);
  const server = await serve();
  expect(await http(["audit", "verify"], env)).toContain("as they were written");
  await waitFor(async () => (await fetch(`${server.url}/health/ready`)).status === 200, {
    timeoutMs: 20_000,
    what: "the server to be ready",
  });
  expect(server.program.output()).not.toContain("--bootstrap");
});
