// A whole cluster on this machine: PostgreSQL, NATS, HTTP servers behind one address, and workers as if each
// had its own machine. Everything is below one directory, listens on loopback, has credentials, and is ended
// by its process id.

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
  /** `formation-mcp`, which purges the state of a node. */
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
  /** How a worker reaches them. Default: like every other program. */
  wayFor?(worker: string, ports: { nats: number; postgres: number }): Promise<Way>;
}

/** How a worker reaches the shared services. */
export interface Way {
  /** host:port. */
  nats: string;
  postgres: string;
  /** The command prefix that starts the program where it reaches these addresses. */
  within: string[];
}

export interface Server {
  name: string;
  stateDir: string;
  /** Where the program listens; it changes with a restart. */
  url(): string;
  program(): Program;
  start(): Promise<void>;
}

export interface Node {
  name: string;
  id: string;
  stateDir: string;
  /** Its machines, as deployment ids with attempts. */
  machines(): string[];
  /** A value from its /metrics: the sum of the series, or of those with the labels. */
  metric(name: string, labels?: string): Promise<number>;
  program(): Program;
  start(): Promise<void>;
}

export interface Cluster {
  root: string;
  /** The address of the balancer. */
  url: string;
  balancer: Balancer;
  postgres: Postgres;
  nats: Nats;
  servers: Server[];
  nodes: Node[];
  /** Makes the account of a key the first admin. */
  bootstrapToken: string;
  /** The settings of the servers, for commands on the same machine. */
  serverEnv: Record<string, string>;
  /** Ends everything, also the VMs, and removes the directory. @throws if something is left, naming it. */
  stop(): Promise<void>;
}

const ROOT = join(import.meta.dirname, "../..");
const built = (path: string) => [process.execPath, join(ROOT, path)];
export const BUNDLES: Programs = {
  http: built("apps/http/dist/formation-mcp-http.mjs"),
  worker: built("apps/worker/dist/formation-mcp-worker.mjs"),
  local: built("apps/stdio/dist/formation-mcp.mjs"),
};

/** What the parts of a cluster get to start with. */
interface ClusterDeps {
  options: ClusterOptions;
  say: Say;
  programs: Programs;
  root: string;
  /** The environment of every program. */
  common: Record<string, string>;
  /** The actions of `stop`; the last one runs first. */
  closing: (() => Promise<unknown>)[];
}

/** Starts PostgreSQL, NATS, the servers and the workers, in that order. */
export async function startCluster(options: ClusterOptions): Promise<Cluster> {
  const { say, programs = BUNDLES } = options;
  const root = mkdtempSync(join(tmpdir(), "fc-"));
  // The accounts of PostgreSQL and NATS go through this directory to their own directories. Every other file
  // in it has mode 0600 or 0700.
  chmodSync(root, 0o711);
  const { PATH = "/usr/bin:/bin", HOME = "/" } = process.env;
  const common = { PATH, HOME, FORMATION_DRIVERS: options.drivers, ...options.env };
  const closing: ClusterDeps["closing"] = [];
  const deps: ClusterDeps = { options, say, programs, root, common, closing };
  const stop = () => stopCluster(root, closing);
  try {
    writeFileSync(join(root, "master.key"), randomBytes(32), { mode: 0o600 });
    const nodeNames = numbered("node", options.workers);
    for (const name of nodeNames) mkdirSync(join(root, name), { mode: 0o700 });
    const nats = await startNatsWithKeys(deps, nodeNames);
    const postgres = await startPostgres(root, say, options.listen?.postgres);
    closing.push(() => postgres.stop());
    const ports: number[] = [];
    const balancer = await startBalancer(ports);
    closing.push(() => balancer.close());
    const serverEnv = serverSettings(root, postgres, nats, balancer);
    say("tables: formation-mcp-http migrate");
    const migrating = { ...serverEnv, FORMATION_STATE_DIR: join(root, "server-1") };
    await run("migrate", command(deps, programs.http, ["migrate"], migrating), say);

    say(`servers: ${options.servers} at ${balancer.url}`);
    const servers: Server[] = [];
    // One after the other: the first server finds no account and makes the token for the first admin.
    for (const [index, name] of numbered("server", options.servers).entries()) {
      servers.push(await startServer(deps, { name, index, ports, env: serverEnv }));
    }
    const tokens = servers.flatMap(
      (server) => /--bootstrap (fmb_\S+)/.exec(server.program().output())?.[1] ?? [],
    );
    say(`workers: ${nodeNames.join(" ")}`);
    const nodes = await Promise.all(nodeNames.map((name) => startNode(deps, name, postgres, nats)));
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

/**
 * Ends the parts in reverse order and removes the directory.
 * @throws with the failure and the processes that are left.
 */
async function stopCluster(root: string, closing: ClusterDeps["closing"]): Promise<void> {
  const failures: unknown[] = [];
  for (const close of closing.splice(0).reverse()) await close().catch((error) => failures.push(error));
  const left = processesUnder(root);
  rmSync(root, { recursive: true, force: true });
  if (left.length > 0) failures.push(new Error(`Processes are left:\n${left.join("\n")}`));
  if (failures.length > 0) throw new AggregateError(failures, failures.map(String).join("\n"));
}

/** How to start a program with its own arguments and settings. */
function command(
  { common }: ClusterDeps,
  [file = "", ...args]: string[],
  more: string[],
  env: Record<string, string>,
) {
  return { file, args: [...args, ...more], env: { ...common, ...env } };
}

function numbered(what: string, count: number): string[] {
  return Array.from({ length: count }, (_, i) => `${what}-${i + 1}`);
}

/** Makes one NATS key for the servers and one for each worker, and starts NATS with them as its users. */
async function startNatsWithKeys(deps: ClusterDeps, nodeNames: string[]): Promise<Nats> {
  const { say, programs, root, options, closing } = deps;
  say("keys: one for the servers, one for each worker");
  const natsUser = (words: string[], key: string, stateDir: string) =>
    run(
      "nats-user",
      command(deps, words, ["nats-user", "--key", join(root, key)], {
        FORMATION_STATE_DIR: join(root, stateDir),
      }),
      say,
    );
  const [server = "", ...workers] = await Promise.all([
    natsUser(programs.http, "server.nk", "server-1"),
    ...nodeNames.map((name) => natsUser(programs.worker, `${name}.nk`, name)),
  ]);
  const nats = await startNats(root, { servers: [server], workers }, say, "", options.listen?.nats);
  closing.push(() => nats.stop());
  return nats;
}

/** The settings of every server. */
function serverSettings(
  root: string,
  postgres: Postgres,
  nats: Nats,
  balancer: Balancer,
): Record<string, string> {
  return {
    FORMATION_DATABASE_URL: postgres.urls.server,
    FORMATION_DATABASE_PASSWORD_FILE: postgres.passwordFiles.server,
    FORMATION_NATS_URL: nats.url,
    FORMATION_NATS_NKEY: join(root, "server.nk"),
    FORMATION_MASTER_KEY_FILE: join(root, "master.key"),
    FORMATION_PUBLIC_URL: balancer.url,
    FORMATION_HTTP_PORT: "0",
  };
}

/** Starts one server. Its port goes into `ports`, where the balancer reads it. */
async function startServer(
  deps: ClusterDeps,
  { name, index, ports, env }: { name: string; index: number; ports: number[]; env: Record<string, string> },
): Promise<Server> {
  const { say, programs, closing } = deps;
  const stateDir = join(deps.root, name);
  let program: Program;
  const begin = async () => {
    program = start(name, command(deps, programs.http, [], { ...env, FORMATION_STATE_DIR: stateDir }));
    const listening = () => /"message":"listening".*"address":"([^"]+)"/.exec(program.output())?.[1];
    const address = await until(listening, { what: name, say, program });
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
}

/** Starts one worker as a separate node. Closing it purges its state. */
async function startNode(deps: ClusterDeps, name: string, postgres: Postgres, nats: Nats): Promise<Node> {
  const { say, programs, closing, options } = deps;
  const stateDir = join(deps.root, name);
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
    FORMATION_NATS_NKEY: join(deps.root, `${name}.nk`),
  };
  let program: Program;
  const begin = async () => {
    program = start(name, command(deps, [...(way?.within ?? []), ...programs.worker], [], env));
    await until(() => program.output().includes('"message":"The worker is ready."'), {
      what: `${name} to be ready`,
      say,
      program,
      timeoutMs: 180_000,
    });
  };
  closing.push(async () => {
    await program?.stop();
    const purging = command(deps, programs.local, ["purge", "--yes", "--state-dir", stateDir], {});
    if (existsSync(join(stateDir, "worker.lock"))) await run("purge", purging, say);
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
}

function listed(directory: string): string[] {
  return existsSync(directory) ? readdirSync(directory) : [];
}

/** @param log of the worker: it names the address of the metrics. */
async function metricOf(log: string, name: string, labels: string): Promise<number> {
  const address = /"message":"health and metrics are served","address":"([^"]+)"/.exec(log)?.[1] ?? "";
  const text = await (await fetch(`http://${address}/metrics`)).text();
  const lines = text.split("\n").filter((line) => line.startsWith(name) && line.includes(labels));
  return lines.reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(" "))), 0);
}

/** `pid command` of every process that uses the directory. */
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
