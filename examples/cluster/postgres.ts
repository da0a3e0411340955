// A real PostgreSQL from this machine's packages, configured with deploy/postgres: passwords are on, and
// servers and workers have their own roles. Its data is in a temporary directory that is removed with it.

import { randomBytes } from "node:crypto";
import { appendFileSync, chownSync, copyFileSync, mkdirSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import {
  type Account,
  accepts,
  accountOf,
  type Command,
  freePort,
  type Program,
  run,
  type Say,
  start,
  until,
} from "./processes.ts";

export interface Postgres {
  port: number;
  /** Without passwords: those are in files. */
  urls: { server: string; worker: string };
  passwordFiles: { server: string; worker: string };
  /** Connects as the superuser over loopback, with the password: for tests, which keep it in memory. */
  adminUrl: string;
  program(): Program;
  stop(): Promise<void>;
  /** SIGQUIT: it stops at once, as in a crash. */
  crash(): Promise<void>;
  /** SIGINT: it closes all connections, rolls back their transactions, and stops. */
  quit(): Promise<void>;
  start(): Promise<void>;
}

const DEPLOY = join(import.meta.dirname, "../../deploy/postgres");

/** How to run a program of PostgreSQL, as the account that owns the data. */
type ProgramOf = (file: string, args: string[], env?: Record<string, string>) => Command;

/**
 * Makes a PostgreSQL cluster with the roles of deploy/postgres, and starts it.
 *
 * @param host where it listens in addition to loopback; every address of that network may connect as a worker
 *   or a server.
 */
export async function startPostgres(root: string, say: Say, host = "127.0.0.1"): Promise<Postgres> {
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
  const as: ProgramOf = (file, args, env = {}) => ({
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
  configure(data, host, account);

  const hosts = [...new Set(["127.0.0.1", host])].join(",");
  const port = await freePort();
  let program: Program;
  const begin = async () => {
    const settings = [`port=${port}`, `listen_addresses=${hosts}`, "unix_socket_directories="];
    program = start("postgres", as("postgres", ["-D", data, ...settings.flatMap((each) => ["-c", each])]));
    await until(() => /database system is ready/.test(program.output()) && accepts(port), {
      what: "PostgreSQL",
      say,
      program,
    });
  };
  const end = async (signal: NodeJS.Signals) => {
    program.signal(signal);
    await until(() => program.ended(), { what: "PostgreSQL to end", say });
  };
  await begin();
  await createRoles(as, port, passwords, say);
  const url = (role: string) => `postgres://${role}@127.0.0.1:${port}/formation`;
  return {
    port,
    urls: { server: url("formation_server"), worker: url("formation_worker") },
    passwordFiles: { server: files.server, worker: files.worker },
    adminUrl: `postgres://postgres:${passwords.postgres}@127.0.0.1:${port}/formation`,
    program: () => program,
    async stop() {
      await end("SIGINT").catch(() => program.stop(10_000));
    },
    crash: () => end("SIGQUIT"),
    quit: () => end("SIGINT"),
    start: begin,
  };
}

/** Puts the configuration of deploy/postgres into a new data directory. */
function configure(data: string, host: string, account: Account | undefined): void {
  for (const file of ["pg_hba.conf", "formation.conf"]) {
    copyFileSync(join(DEPLOY, file), join(data, file));
    own(account, join(data, file));
  }
  appendFileSync(join(data, "postgresql.conf"), "\ninclude 'formation.conf'\n");
  if (host === "127.0.0.1") return;
  const rule = "host formation formation_server,formation_worker samenet scram-sha-256\n";
  appendFileSync(join(data, "pg_hba.conf"), rule);
}

/** Runs deploy/postgres/roles.sql as the superuser. */
async function createRoles(
  as: ProgramOf,
  port: number,
  passwords: Record<"postgres" | "server" | "worker", string>,
  say: Say,
): Promise<void> {
  const connection = ["-h", "127.0.0.1", "-p", String(port), "-U", "postgres"];
  const script = ["-X", "-q", "-v", "ON_ERROR_STOP=1", ...connection, "-f", join(DEPLOY, "roles.sql")];
  const psql = as("psql", script, {
    PGPASSWORD: passwords.postgres,
    FORMATION_SERVER_PASSWORD: passwords.server,
    FORMATION_WORKER_PASSWORD: passwords.worker,
  });
  await run("psql", { ...psql, account: undefined }, say);
}

function secret(): string {
  return randomBytes(24).toString("base64url");
}

function own(account: Account | undefined, ...paths: string[]): void {
  if (account) for (const path of paths) chownSync(path, account.uid, account.gid);
}

/** Debian keeps the programs of each version in a separate directory; other systems have them in the PATH. */
function programs(): string {
  const debian = "/usr/lib/postgresql";
  try {
    const versions = readdirSync(debian).sort((a, b) => Number(b) - Number(a));
    if (versions[0] !== undefined) return join(debian, versions[0], "bin");
  } catch {
    // Not Debian: use the PATH.
  }
  return "/usr/bin";
}
