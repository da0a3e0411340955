// A real PostgreSQL for tests and benchmarks: a cluster of its own on loopback, with its data in a temporary
// directory. It does not run as root, and it ends with the process that started it.

import { type ChildProcess, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import {
  chownSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { runChecked, waitFor } from "@formation-mcp/os";
import { freePort } from "@formation-mcp/os/testing/free-port";
import { Client } from "pg";

export interface TestPostgres {
  /** As the owner of the database `formation`, an ordinary role that may make schemas there. */
  readonly url: string;
  /** As the superuser of the cluster. */
  readonly adminUrl: string;
  /** Makes a role that may log in and nothing else, and returns its URL. */
  role(name: string): Promise<string>;
  /** Kills every process of the cluster at once (SIGKILL), as a crash does. */
  kill(): Promise<void>;
  /** Starts the cluster again on the same port with the same data. Kills it first if it runs. */
  restart(): Promise<void>;
  /** Stops its processes (SIGSTOP) until `resume`: a server that does not answer. */
  pause(): void;
  resume(): void;
  /** Ends the cluster and removes its data. */
  stop(): Promise<void>;
}

export interface TestPostgresOptions {
  /**
   * Settings of postgresql.conf. Default: fsync off, because only processes are killed here, not machines.
   */
  settings?: Record<string, string>;
}

const LIMIT_MS = 60_000;
const HOST = "127.0.0.1";

/** Makes and starts a cluster that asks for passwords. Needs the programs of PostgreSQL, not its service. */
export async function startPostgres(options: TestPostgresOptions = {}): Promise<TestPostgres> {
  const bin = programs();
  const directory = mkdtempSync(join(tmpdir(), "postgres-"));
  const launcher = unprivileged(directory);
  const data = join(directory, "data");
  const password = randomBytes(16).toString("hex");
  const secret = join(directory, "password");
  writeFileSync(secret, password, { mode: 0o600 });
  if (launcher.uid !== undefined) chownSync(secret, launcher.uid, launcher.gid ?? launcher.uid);
  const port = await freePort();
  const settings = { fsync: "off", max_connections: "200", ...options.settings };
  const command = [
    launcher.file,
    ...launcher.args,
    ...[join(bin, "postgres"), "-D", data],
    ...Object.entries({
      ...settings,
      listen_addresses: HOST,
      port: String(port),
      unix_socket_directories: "",
    }).flatMap(([name, value]) => ["-c", `${name}=${value}`]),
  ];
  const adminUrl = `postgres://postgres:${password}@${HOST}:${port}/postgres`;
  const cluster = new Cluster(command, adminUrl, directory);
  try {
    const initdb = ["-D", data, "-U", "postgres", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync"];
    await runChecked(
      launcher.file,
      [...launcher.args, join(bin, "initdb"), ...initdb, "--pwfile", secret, "--auth=scram-sha-256"],
      { timeoutMs: LIMIT_MS, cwd: directory },
    );
    await cluster.start();
    const url = await cluster.role("formation");
    await cluster.query("CREATE DATABASE formation OWNER formation");
    return cluster.handle(url);
  } catch (error) {
    await cluster.stop();
    throw error;
  }
}

class Cluster {
  readonly #command: readonly string[];
  readonly #adminUrl: string;
  readonly #directory: string;
  #postmaster: ChildProcess | undefined;
  #stderr = "";
  readonly #atExit = () => this.#signal("SIGQUIT");

  constructor(command: readonly string[], adminUrl: string, directory: string) {
    this.#command = command;
    this.#adminUrl = adminUrl;
    this.#directory = directory;
    process.on("exit", this.#atExit);
  }

  /** What the test gets. */
  handle(url: string): TestPostgres {
    return {
      url,
      adminUrl: this.#adminUrl,
      role: (name) => this.role(name),
      kill: () => this.#end("SIGKILL"),
      restart: async () => {
        await this.#end("SIGKILL");
        await this.start();
      },
      pause: () => this.#signal("SIGSTOP"),
      resume: () => this.#signal("SIGCONT"),
      stop: () => this.stop(),
    };
  }

  async start(): Promise<void> {
    const [file = "", ...args] = this.#command;
    this.#stderr = "";
    const postmaster = spawn(file, args, {
      stdio: ["ignore", "ignore", "pipe"],
      detached: true,
      cwd: this.#directory,
    });
    this.#postmaster = postmaster;
    postmaster.stderr?.on("data", (chunk) => {
      this.#stderr = `${this.#stderr}${chunk}`.slice(-4000);
    });
    postmaster.once("error", (error) => {
      this.#stderr += String(error);
    });
    await waitFor(
      async () => {
        if (postmaster.exitCode !== null || postmaster.pid === undefined) {
          throw new Error(`PostgreSQL ended at its start: ${this.#stderr}`);
        }
        return await this.query("SELECT 1").then(
          () => true,
          () => false,
        );
      },
      { timeoutMs: LIMIT_MS, everyMs: 25, what: "PostgreSQL to answer" },
    );
  }

  /** A role of that name with a password of its own. */
  async role(name: string): Promise<string> {
    const password = randomBytes(16).toString("hex");
    await this.query(`CREATE ROLE "${name}" LOGIN PASSWORD '${password}'`);
    const url = new URL(this.#adminUrl);
    url.username = name;
    url.password = password;
    url.pathname = "/formation";
    return url.href;
  }

  async query(text: string): Promise<void> {
    const client = new Client({ connectionString: this.#adminUrl, connectionTimeoutMillis: 5000 });
    client.on("error", () => {}); // A server that ends also fails the query.
    try {
      await client.connect();
      await client.query(text);
    } finally {
      await client.end().catch(() => {});
    }
  }

  async #end(signal: NodeJS.Signals): Promise<void> {
    const postmaster = this.#postmaster;
    if (!postmaster?.pid || postmaster.exitCode !== null || postmaster.signalCode !== null) return;
    const gone = new Promise((resolve) => postmaster.once("close", resolve));
    this.#signal("SIGCONT");
    this.#signal(signal);
    await gone;
  }

  /** Signals the postmaster and its children: each child leads a process group of its own. */
  #signal(signal: NodeJS.Signals): void {
    const pid = this.#postmaster?.pid;
    if (!pid || this.#postmaster?.exitCode !== null) return;
    for (const each of [pid, ...childrenOf(pid)]) {
      try {
        process.kill(each, signal);
      } catch {
        // The process has ended.
      }
    }
  }

  async stop(): Promise<void> {
    process.off("exit", this.#atExit);
    await this.#end("SIGQUIT");
    rmSync(this.#directory, { recursive: true, force: true, maxRetries: 5 });
  }
}

function childrenOf(pid: number): number[] {
  try {
    return readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").split(" ").filter(Boolean).map(Number);
  } catch {
    return [];
  }
}

/** The directory of the newest installed version's programs: Debian keeps it out of the PATH. */
function programs(): string {
  const root = "/usr/lib/postgresql";
  const versions = existsSync(root) ? readdirSync(root).map(Number).filter(Number.isFinite) : [];
  const newest = versions.sort((a, b) => b - a)[0];
  if (newest === undefined) throw new Error("PostgreSQL is not installed: install the package postgresql.");
  return join(root, String(newest), "bin");
}

/**
 * How to start PostgreSQL: as its package's user if this process is root, and so that it ends with this
 * process.
 */
function unprivileged(directory: string): { file: string; args: string[]; uid?: number; gid?: number } {
  const [file, tied] = ["setpriv", ["--pdeathsig", "QUIT"]];
  if (process.getuid?.() !== 0) return { file, args: [...tied, "--"] };
  const entry = readFileSync("/etc/passwd", "utf8")
    .split("\n")
    .find((line) => line.startsWith("postgres:"));
  const [uid = Number.NaN, gid = Number.NaN] = (entry?.split(":").slice(2, 4) ?? []).map(Number);
  if (!Number.isInteger(uid)) throw new Error("There is no user postgres to run PostgreSQL as.");
  chownSync(directory, uid, gid);
  return { file, args: [...tied, `--reuid=${uid}`, `--regid=${gid}`, "--clear-groups", "--"], uid, gid };
}
