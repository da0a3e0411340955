// One simulation from its seed: the world is made, users make requests while faults happen, everything is
// repaired, and the result is checked.

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Logger, NO_QUOTA } from "@formation-mcp/contract";
import { openSqliteStore } from "@formation-mcp/operations/sqlite";
import { openEmbeddedQueue } from "@formation-mcp/queue/embedded";
import { NODES_A_QUEUE, openBus } from "./bus.ts";
import { type Chance, chance } from "./chance.ts";
import { LONGEST_SKEW_MS, unleash } from "./chaos.ts";
import { installFiles } from "./files.ts";
import { memoryArtifacts } from "./foundry.ts";
import { SimulatedNode, type Surroundings } from "./nodes.ts";
import { operate } from "./operators.ts";
import { SimulatedServer } from "./servers.ts";
import { elapsed, install, later, NOWHERE, passUntil, pause, realNow, trueTime, within } from "./time.ts";
import { truth as newTruth, type Truth } from "./truth.ts";
import { type Crowd, User, ZONES } from "./users.ts";
import { disagreements, judge, unfinished } from "./verdict.ts";
import { watched } from "./watch.ts";

export interface Size {
  seed: number;
  nodes: number;
  operations: number;
}

export interface Report extends Size {
  offences: string[];
  counts: Record<string, number>;
  /** The largest clock error, in milliseconds. */
  skewMs: number;
  virtualSeconds: number;
  seconds: number;
  /** CPU seconds. */
  cpuSeconds: number;
}

const SERVERS = 4;
/** How long records and reality may differ after the repair: a reconciliation, a sweep, a lease. */
const SETTLED_MS = 20 * 60_000;
/** After this time the owners cancel operations that still wait for room. */
const PATIENCE_MS = 3 * 60_000;

export async function experiment(size: Size, progress: (line: string) => void = () => {}): Promise<Report> {
  const began = realNow();
  const random = chance(size.seed);
  install(random.branch("anything").next);
  installFiles();
  // A module that is loaded on demand would arrive at a moment that can not be replayed.
  await import("@formation-mcp/artifacts/context");
  const truth = newTruth();
  const directory = mkdtempSync(join(tmpdir(), "simulation-"));
  try {
    await play(size, random, truth, directory, progress);
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
  return {
    ...size,
    offences: truth.offences,
    counts: Object.fromEntries([...truth.counts].sort()),
    skewMs: LONGEST_SKEW_MS,
    virtualSeconds: Math.round(elapsed() / 1000),
    seconds: Math.round((realNow() - began) / 1000),
    cpuSeconds: Math.round((process.cpuUsage().user + process.cpuUsage().system) / 1e6),
  };
}

async function play(
  size: Size,
  random: Chance,
  truth: Truth,
  directory: string,
  progress: (line: string) => void,
): Promise<void> {
  const clock = { now: trueTime };
  const logger: Logger = {
    log(level, message) {
      if (level === "error") truth.count(`error: ${message.replaceAll(/[a-z]+_[0-9a-z]{36}/g, "…")}`);
    },
  };
  const quota = {
    ...NO_QUOTA,
    instances: 12,
    vcpus: 16,
    memory_mb: 8192,
    disk_gb: 80,
    builds: 4,
    operations_per_minute: 120,
  };
  const real = await openSqliteStore({ path: ":memory:", clock });
  const { store, ledger } = watched(real, truth, quota);
  const queuePaths = Array.from({ length: Math.ceil(size.nodes / NODES_A_QUEUE) }, (_, at) =>
    join(directory, `queue-${at}.db`),
  );
  const queues = await Promise.all(queuePaths.map((path) => openEmbeddedQueue({ path, clock, pollMs: 0 })));
  const deadly = { likelihood: 0 };
  const trouble = { lost: 0, late: 0, lateMs: 0 };
  const given: Omit<Surroundings, "bus"> = {
    store,
    artifacts: memoryArtifacts(truth),
    truth,
    logger,
    deadly,
    trouble,
  };
  const bus = { current: null as Surroundings["bus"] | null };
  const surroundings: Surroundings = {
    ...given,
    get bus() {
      if (!bus.current) throw new Error("The bus is not there yet.");
      return bus.current;
    },
  };
  const nodes = Array.from({ length: size.nodes }, (_, at) => {
    const own = random.branch(`node ${at}`);
    const capacity = {
      vcpus: own.whole(3, 8),
      memory_mb: 1024 * own.whole(3, 8),
      disk_gb: own.whole(30, 90),
    };
    return new SimulatedNode(
      `node-${at}`,
      capacity,
      { zone: ZONES[at % ZONES.length] as string },
      surroundings,
      own,
    );
  });
  bus.current = await openBus(queues, truth, random.branch("bus"));
  const servers = Array.from(
    { length: SERVERS },
    (_, at) =>
      new SimulatedServer(
        `server-${at}`,
        { ...surroundings, bus: surroundings.bus, quota },
        random.branch(`server ${at}`),
      ),
  );
  for (const server of servers) server.start();
  for (const node of nodes) later(random.between(0, 5000), NOWHERE, () => node.start());

  let over = false;
  const crowd: Crowd = {
    servers,
    truth,
    accepted: new Set(),
    nodes: nodes.map(({ name }) => name),
    thinkMs: 500,
    instances: 9,
    isOver: () => over || ledger.operations.size >= size.operations || truth.offences.length > 0,
  };
  const users = Array.from(
    { length: Math.max(3, Math.ceil(size.nodes / 3)) },
    (_, at) => new User(`owner-${at}`, crowd, random.branch(`user ${at}`)),
  );
  let done = false;
  const said = { at: 0 };
  const story = within(NOWHERE, async () => {
    await pause(8000);
    const chaos = unleash(
      { ...surroundings, bus: surroundings.bus, nodes, servers, queuePaths },
      random.branch("chaos"),
    );
    const operated = operate({ nodes, servers, truth, isOver: crowd.isOver }, random.branch("operators"));
    await Promise.all(users.map((user) => user.live()));
    over = true;
    await operated;
    if (truth.offences.length > 0) return;
    progress(`put right at ${(elapsed() / 1000).toFixed(0)} s`);
    await chaos.end();
    await settle();
    await judge(real, nodes, ledger, crowd.accepted, truth);
  });
  const settle = async () => {
    const end = elapsed() + SETTLED_MS;
    let calledOff = false;
    const given_up = elapsed() + PATIENCE_MS;
    for (;;) {
      const open = await unfinished(real);
      const differ = open.length > 0 ? [] : await disagreements(real, nodes);
      if (elapsed() >= end || truth.offences.length > 0 || (open.length === 0 && differ.length === 0)) return;
      if (elapsed() >= given_up && !calledOff) {
        calledOff = true;
        truth.count("called off", open.length);
        for (const { id } of open) await store.requestCancel(null, id).catch(() => null);
      }
      await pause(5000);
    }
  };
  story.then(
    () => {
      done = true;
    },
    (error: Error) => {
      truth.offence(error.stack ?? String(error));
      done = true;
    },
  );
  await passUntil(() => {
    if (realNow() - said.at > 5000) {
      said.at = realNow();
      progress(
        `${(elapsed() / 1000).toFixed(0)} s: ${ledger.operations.size} operations, ${ledger.claims} claims`,
      );
    }
    return done;
  });
  const ids = /(vm|bld|op|dep)_[0-9a-z]{36}|node-\d+/g;
  const named: string[] = truth.offences.slice(0, 5).join(" ").match(ids) ?? [];
  // For an overbooked host: what ran on it recently.
  for (const each of [...named]) {
    if (each.startsWith("node-")) named.push(...(truth.history(each).slice(-16).join(" ").match(ids) ?? []));
  }
  for (const about of new Set(named.map((name) => truth.instanceOf(`${name}.1`) ?? name))) {
    for (const line of truth.history(about)) progress(`${about}: ${line}`);
  }
}
