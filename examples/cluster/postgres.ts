// A real PostgreSQL from this machine's packages, configured by deploy/postgres as a real one is: passwords on, roles of
// their own for servers and workers. Its data lies in a directory of ours and goes with it.

import { randomBytes } from "node:crypto";
import { appendFileSync, chownSync, copyFileSync, mkdirSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import {
  type Account,
  accepts,
  accountOf,
  freePort,
  type Program,
  run,
  type Say,
  start,
  until,
} from "./processes.ts";

export interface Postgres {
  port: number;
  /** Without passwords, which stand in files. */
  urls: { server: string; worker: string };
  passwordFiles: { server: string; worker: string };
  program(): Program;
  stop(): Promise<void>;
  /** SIGQUIT: it stops without finishing anything, as after a crash. */
  crash(): Promise<void>;
  start(): Promise<void>;
}

const DEPLOY = join(import.meta.dirname, "../../deploy/postgres");

export async function startPostgres(root: string, say: Say): Promise<Postgres> {
  const bin = programs();
  const account = accountOf("postgres");
  const home = join(root, "postgres");
  const data = join(home, "data");
  mkdirSync(home, { mode: 0o700 });
  const passwords = { postgres: secret(), server: secret(), worker: secret() };
  const files = {
    postgres: join(home, "password"),
    server: join(root, "server.password"),
    worker: join(root, "worker.password"),
  };
  for (const name of ["postgres", "server", "worker"] as const)
    writeFileSync(files[name], `${passwords[name]}\n`, { mode: 0o600 });
  own(account, home, files.postgres);
  const plain = { PATH: `${bin}:/usr/bin:/bin`, LC_ALL: "C.UTF-8" };
  const as = (file: string, args: string[], env: Record<string, string> = {}) => ({
    file: join(bin, file),
    args,
    env: { ...plain, ...env },
    account,
  });

  say("PostgreSQL: making a cluster of databases");
  const words = [
    "--auth=scram-sha-256",
    `--pwfile=${files.postgres}`,
    "--encoding=UTF8",
    "--no-locale",
    "-N",
  ];
  await run("initdb", as("initdb", ["-D", data, "-U", "postgres", ...words]), say);
  copyFileSync(join(DEPLOY, "pg_hba.conf"), join(data, "pg_hba.conf"));
  copyFileSync(join(DEPLOY, "formation.conf"), join(data, "formation.conf"));
  for (const file of ["pg_hba.conf", "formation.conf"]) own(account, join(data, file));
  appendFileSync(join(data, "postgresql.conf"), "\ninclude 'formation.conf'\n");

  const port = await freePort();
  let program: Program;
  const begin = async () => {
    const settings = [`port=${port}`, "listen_addresses=127.0.0.1", "unix_socket_directories="];
    program = start("postgres", as("postgres", ["-D", data, ...settings.flatMap((each) => ["-c", each])]));
    await until(() => /database system is ready/.test(program.output()) && accepts(port), {
      what: "PostgreSQL",
      say,
      program,
    });
  };
  await begin();
  const psql = as(
    "psql",
    [
      "-X",
      "-q",
      "-v",
      "ON_ERROR_STOP=1",
      "-h",
      "127.0.0.1",
      "-p",
      String(port),
      "-U",
      "postgres",
      "-f",
      "-",
    ].slice(0, -2),
    {
      PGPASSWORD: passwords.postgres,
      FORMATION_SERVER_PASSWORD: passwords.server,
      FORMATION_WORKER_PASSWORD: passwords.worker,
    },
  );
  await run(
    "psql",
    { ...psql, args: [...psql.args, "-f", join(DEPLOY, "roles.sql")], account: undefined },
    say,
  );
  const url = (role: string) => `postgres://${role}@127.0.0.1:${port}/formation`;
  return {
    port,
    urls: { server: url("formation_server"), worker: url("formation_worker") },
    passwordFiles: { server: files.server, worker: files.worker },
    program: () => program,
    async stop() {
      // SIGINT: connections are ended, then it stops.
      program.signal("SIGINT");
      await program.stop(10_000);
    },
    async crash() {
      program.signal("SIGQUIT");
      await until(() => program.ended(), { what: "PostgreSQL to crash", say });
    },
    start: begin,
  };
}

function secret(): string {
  return randomBytes(24).toString("base64url");
}

function own(account: Account | undefined, ...paths: string[]): void {
  if (account) for (const path of paths) chownSync(path, account.uid, account.gid);
}

/** Debian has the programs of each version in a directory of its own; others in the PATH. */
function programs(): string {
  const debian = "/usr/lib/postgresql";
  try {
    const versions = readdirSync(debian).sort((a, b) => Number(b) - Number(a));
    if (versions[0] !== undefined) return join(debian, versions[0], "bin");
  } catch {
    // Not Debian's.
  }
  return "/usr/bin";
}
