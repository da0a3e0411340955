// A whole cluster on this machine: PostgreSQL, NATS, HTTP servers behind one address, and workers as if each
// had a machine of its own. Everything lies below one directory, listens on loopback, has credentials, and is
// ended by its process id.

import { randomBytes } from "node:crypto";
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Balancer, startBalancer } from "./balancer.ts";
import { type Nats, startNats } from "./nats.ts";
import { type Postgres, startPostgres } from "./postgres.ts";
import { type Program, run, type Say, start, until } from "./processes.ts";

/** The words that run each program, without its arguments. */
export interface Programs {
  http: string[];
  worker: string[];
  /** `formation-mcp`, which removes a node's state. */
  local: string[];
}

export interface ClusterOptions {
  say: Say;
  servers: number;
  workers: number;
  drivers: "real" | "fake";
  programs?: Programs;
  /** For every server and worker. */
  env?: Record<string, string>;
  /** Where NATS and PostgreSQL listen. Default: loopback. */
  listen?: { nats: string; postgres: string };
  /** How a worker reaches them. Default: as everybody does. */
  wayFor?(worker: string, ports: { nats: number; postgres: number }): Promise<Way>;
}

/** How a worker reaches what all share. */
export interface Way {
  /** host:port. */
  nats: string;
  postgres: string;
  /** The words before the program's own that put it where it reaches them so. */
  within: string[];
}

export interface Server {
  name: string;
  stateDir: string;
  /** Where it listens itself; changes with a restart. */
  url(): string;
  program(): Program;
  start(): Promise<void>;
}

export interface Node {
  name: string;
  id: string;
  stateDir: string;
  /** The machines that it has, as deployments and their attempts. */
  machines(): string[];
  /** A number that it shows at /metrics: the sum of the series, or of those with the labels. */
  metric(name: string, labels?: string): Promise<number>;
  program(): Program;
  start(): Promise<void>;
}

export interface Cluster {
  root: string;
  /** The one address. */
  url: string;
  balancer: Balancer;
  postgres: Postgres;
  nats: Nats;
  servers: Server[];
  nodes: Node[];
  /** Makes a key the first admin. */
  bootstrapToken: string;
  /** Settings of servers, for commands beside them. */
  serverEnv: Record<string, string>;
  /** Ends everything, the VMs too, and removes the directory. @throws with what is left if something is. */
  stop(): Promise<void>;
}

const ROOT = join(import.meta.dirname, "../..");
const built = (path: string) => [process.execPath, join(ROOT, path)];
export const BUNDLES: Programs = {
  http: built("apps/http/dist/formation-mcp-http.mjs"),
  worker: built("apps/worker/dist/formation-mcp-worker.mjs"),
  local: built("apps/stdio/dist/formation-mcp.mjs"),
};

export async function startCluster(options: ClusterOptions): Promise<Cluster> {
  const { say, programs = BUNDLES } = options;
  const root = mkdtempSync(join(tmpdir(), "fc-"));
  // The accounts of PostgreSQL and NATS go through it to their own directories; what else is in it is 0600 or
  // 0700.
  chmodSync(root, 0o711);
  const closing: (() => Promise<unknown>)[] = [];
  const stop = async () => {
    const failures: unknown[] = [];
    for (const close of closing.splice(0).reverse()) await close().catch((error) => failures.push(error));
    const left = processesUnder(root);
    rmSync(root, { recursive: true, force: true });
    if (left.length > 0) failures.push(new Error(`Processes are left:\n${left.join("\n")}`));
    if (failures.length > 0) throw new AggregateError(failures, failures.map(String).join("\n"));
  };
  try {
    const { PATH = "/usr/bin:/bin", HOME = "/" } = process.env;
    const common = { PATH, HOME, FORMATION_DRIVERS: options.drivers, ...options.env };
    const command = ([file = "", ...args]: string[], more: string[], env: Record<string, string>) => ({
      file,
      args: [...args, ...more],
      env: { ...common, ...env },
    });
    const at = (name: string) => join(root, name);
    writeFileSync(at("master.key"), randomBytes(32), { mode: 0o600 });
    const names = (what: string, count: number) =>
      Array.from({ length: count }, (_, i) => `${what}-${i + 1}`);
    const nodeNames = names("node", options.workers);
    for (const name of nodeNames) mkdirSync(at(name), { mode: 0o700 });

    say("keys: one for the servers, one for each worker");
    const natsUser = (words: string[], key: string, env: Record<string, string>) =>
      run("nats-user", command(words, ["nats-user", "--key", key], env), say);
    const [server = "", ...workers] = await Promise.all([
      natsUser(programs.http, at("server.nk"), { FORMATION_STATE_DIR: at("server-1") }),
      ...nodeNames.map((name) =>
        natsUser(programs.worker, at(`${name}.nk`), { FORMATION_STATE_DIR: at(name) }),
      ),
    ]);
    const nats = await startNats(root, { servers: [server], workers }, say, "", options.listen?.nats);
    closing.push(() => nats.stop());
    const postgres = await startPostgres(root, say, options.listen?.postgres);
    closing.push(() => postgres.stop());

    const ports: number[] = [];
    const balancer = await startBalancer(ports);
    closing.push(() => balancer.close());
    const serverEnv = {
      FORMATION_DATABASE_URL: postgres.urls.server,
      FORMATION_DATABASE_PASSWORD_FILE: postgres.passwordFiles.server,
      FORMATION_NATS_URL: nats.url,
      FORMATION_NATS_NKEY: at("server.nk"),
      FORMATION_MASTER_KEY_FILE: at("master.key"),
      FORMATION_PUBLIC_URL: balancer.url,
      FORMATION_HTTP_PORT: "0",
    };
    say("tables: formation-mcp-http migrate");
    await run(
      "migrate",
      command(programs.http, ["migrate"], { ...serverEnv, FORMATION_STATE_DIR: at("server-1") }),
      say,
    );

    const startServer = async (name: string, index: number): Promise<Server> => {
      const stateDir = at(name);
      let program: Program;
      const begin = async () => {
        program = start(name, command(programs.http, [], { ...serverEnv, FORMATION_STATE_DIR: stateDir }));
        const address = await until(
          () => /"message":"listening".*"address":"([^"]+)"/.exec(program.output())?.[1],
          {
            what: name,
            say,
            program,
          },
        );
        ports[index] = Number(address.slice(address.lastIndexOf(":") + 1));
      };
      await begin();
      closing.push(() => program.stop());
      return {
        name,
        stateDir,
        program: () => program,
        url: () => `http://127.0.0.1:${ports[index]}`,
        start: begin,
      };
    };
    say(`servers: ${options.servers} at ${balancer.url}`);
    const servers: Server[] = [];
    // One after the other: the first that finds no account makes the token of the first admin.
    for (const [index, name] of names("server", options.servers).entries())
      servers.push(await startServer(name, index));
    const tokens = servers.flatMap(
      (server) => /--bootstrap (fmb_\S+)/.exec(server.program().output())?.[1] ?? [],
    );

    const startNode = async (name: string): Promise<Node> => {
      const stateDir = at(name);
      const way = await options.wayFor?.(name, { nats: nats.port, postgres: postgres.port });
      const databaseUrl = new URL(postgres.urls.worker);
      if (way) databaseUrl.host = way.postgres;
      const env = {
        FORMATION_STATE_DIR: stateDir,
        FORMATION_NODE_NAME: name,
        FORMATION_HEALTH_ADDRESS: "127.0.0.1:0",
        FORMATION_NODE_LABELS: `rack=${name.slice("node-".length)}`,
        FORMATION_DATABASE_URL: databaseUrl.href,
        FORMATION_DATABASE_PASSWORD_FILE: postgres.passwordFiles.worker,
        FORMATION_NATS_URL: way ? `nats://${way.nats}` : nats.url,
        FORMATION_NATS_NKEY: at(`${name}.nk`),
      };
      let program: Program;
      const begin = async () => {
        program = start(name, command([...(way?.within ?? []), ...programs.worker], [], env));
        await until(() => program.output().includes('"message":"The worker is ready."'), {
          what: `${name} to be ready`,
          say,
          program,
          timeoutMs: 180_000,
        });
      };
      closing.push(async () => {
        await program?.stop();
        if (existsSync(join(stateDir, "worker.lock")))
          await run("purge", command(programs.local, ["purge", "--yes", "--state-dir", stateDir], {}), say);
      });
      await begin();
      return {
        name,
        id: readFileSync(join(stateDir, "node-id"), "utf8").trim(),
        stateDir,
        program: () => program,
        start: begin,
        machines: () => listed(join(stateDir, "h", "machines")),
        metric: (metric, labels = "") => metricOf(program.output(), metric, labels),
      };
    };
    say(`workers: ${nodeNames.join(" ")}`);
    const nodes = await Promise.all(nodeNames.map(startNode));
    return {
      root,
      url: balancer.url,
      balancer,
      postgres,
      nats,
      servers,
      nodes,
      bootstrapToken: tokens.at(-1) ?? "",
      serverEnv: { ...common, ...serverEnv },
      stop,
    };
  } catch (error) {
    await stop().catch(() => {});
    throw error;
  }
}

function listed(directory: string): string[] {
  return existsSync(directory) ? readdirSync(directory) : [];
}

/** @param log of the worker: it says where its numbers are. */
async function metricOf(log: string, name: string, labels: string): Promise<number> {
  const address = /"message":"health and metrics are served","address":"([^"]+)"/.exec(log)?.[1] ?? "";
  const text = await (await fetch(`http://${address}/metrics`)).text();
  const lines = text.split("\n").filter((line) => line.startsWith(name) && line.includes(labels));
  return lines.reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(" "))), 0);
}

/** `pid command` of every process that works for the directory. */
export function processesUnder(directory: string): string[] {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .flatMap((pid) => {
      try {
        const words = readFileSync(`/proc/${pid}/cmdline`, "utf8").replaceAll("\0", " ").trim();
        return words.includes(directory) ? [`${pid} ${words.slice(0, 200)}`] : [];
      } catch {
        return []; // it went while we looked
      }
    });
}
