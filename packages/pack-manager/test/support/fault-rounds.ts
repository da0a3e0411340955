// One round of faults with real processes: operations begin, the worker or machines are killed at random
// moments, and afterwards records and reality must agree. Every choice comes from the seed, so that a round
// can be repeated.

import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { seededRandom } from "@formation-mcp/base/testing/seeded-random";
import {
  CONTROL_ACTIONS,
  hasEnded,
  type Id,
  type Instance,
  newId,
  type Operation,
} from "@formation-mcp/contract";
import type { Formfile } from "@formation-mcp/formfile";
import type { Store } from "@formation-mcp/operations";
import { openSqliteStore } from "@formation-mcp/operations/sqlite";
import { waitFor } from "@formation-mcp/os";
import type { Queue } from "@formation-mcp/queue";
import { openEmbeddedQueue } from "@formation-mcp/queue/embedded";
import { formfile, type Requests, requests } from "./requests.ts";
import { type Drivers, type Site, siteAt } from "./site.ts";
import { clearSite, machinesOf, machinesRunning, processesOf, temporaryPaths } from "./site-state.ts";

export interface RoundOptions {
  drivers: Drivers;
  /** The formfile that is built; it must listen on the port it exposes. `port` is free in this round. */
  file(port: number): Partial<Formfile>;
  /** How long an action usually takes at most, in milliseconds. The kills happen within this time. */
  actionMs: number;
  /** How long everything may take to end afterwards, in milliseconds. */
  endMs: number;
}

type Victim = "worker" | "machine" | "worker and machine";
const VICTIMS: Victim[] = ["worker", "worker", "worker", "machine", "worker and machine"];
const ACTIONS = ["build", "ship", "create", "replace", "control", "delete", "cancel"] as const;

interface Round {
  site: Site;
  node: Id<"node">;
  options: RoundOptions;
  store: Store;
  queue: Queue;
  ask: Requests;
  random: () => number;
  events: string[];
  log: string[];
  child: ChildProcess | null;
}

/** Runs a round. Returns what happened; an error says what happened and what was wrong. */
export async function runRound(seed: number, options: RoundOptions): Promise<string> {
  const site = siteAt(mkdtempSync(join(tmpdir(), "pm-")));
  const store = await openSqliteStore({ path: site.store });
  const queue = await openEmbeddedQueue({ path: site.queue });
  const random = seededRandom(seed);
  const round: Round = {
    site,
    node: newId("node"),
    options,
    store,
    queue,
    ask: requests(store, queue),
    random,
    events: [],
    log: [],
    child: null,
  };
  // A round has one instance, so two machines that run at a time belong to it.
  const overlaps = new Set<string>();
  const watch = setInterval(() => {
    const running = machinesRunning(site, options.drivers);
    if (running.length > 1) overlaps.add(running.join(" and "));
  }, 50);
  try {
    await playActions(round);
    if (overlaps.size > 0) throw new Error(`ran at the same time: ${[...overlaps].join("; ")}`);
    return `seed ${seed}: ${round.events.join(", ")}`;
  } catch (error) {
    await killWorker(round);
    await clearSite(site, options.drivers).catch((left: Error) =>
      round.log.push(`not cleared: ${left.message}`),
    );
    const lines = round.log.join("").split("\n").slice(-40).join("\n");
    throw new Error(
      `seed ${seed}: ${round.events.join(", ")}: ${error instanceof Error ? error.message : error}\n${lines}`,
      { cause: error },
    );
  } finally {
    clearInterval(watch);
    await killWorker(round);
    await queue.close();
    await store.close();
    for (const each of processesOf(site)) kill(Number(each.split(" ")[0]));
    rmSync(site.root, { recursive: true, force: true });
  }
}

async function playActions(round: Round): Promise<void> {
  const { random, options } = round;
  await startWorker(round);
  const port = 20_000 + Math.floor(random() * 20_000);
  const action = pick(random, ACTIONS);
  const victim = pick(random, VICTIMS);
  const begun = await begin(round, action, options.file(port));
  const kills = 1 + Math.floor(random() * 2);
  for (let i = 0; i < kills; i++) {
    const after = Math.floor(random() * options.actionMs);
    round.events.push(`${i === 0 ? action : "again"}, kill -9 ${victim} after ${after} ms`);
    await delay(after);
    if (victim !== "machine") await killWorker(round);
    if (victim !== "worker") killMachines(round.site);
    if (victim !== "machine") await startWorker(round);
  }
  await allEnded(round);
  checkOperations(await everyOperation(round));
  if (begun !== null) await instanceAtRest(round, begun);
  await stopWorker(round);
  await checkAgreementWithRestart(round);
  await startWorker(round);
  for (const instance of await instances(round)) await round.ask.remove(instance.id);
  await allEnded(round);
  await stopWorker(round);
  await checkNothingLeft(round);
}

/** Prepares what an action needs and submits it. Returns its instance, if it has one. */
async function begin(
  round: Round,
  action: (typeof ACTIONS)[number],
  file: Partial<Formfile>,
): Promise<Id<"vm"> | null> {
  const { ask, random } = round;
  if (action === "build") {
    await ask.build(file);
    return null;
  }
  if (action === "create" || action === "cancel") {
    const { instance, operation } = await ask.create(file);
    if (action === "cancel") {
      await delay(Math.floor(random() * round.options.actionMs));
      await round.store.requestCancel(null, operation.id);
    }
    return instance;
  }
  const built = await ask.build(file);
  await ended(round, built.operation);
  const shipped = await ask.ship(built.build, { file: formfile(file) });
  if (action === "ship") return shipped.instance;
  await ended(round, shipped.operation);
  if (action === "replace") await ask.ship(built.build, { replace: shipped.instance, file: formfile(file) });
  else if (action === "delete") await ask.remove(shipped.instance);
  else {
    const first = pick(random, CONTROL_ACTIONS);
    round.events.push(first);
    await ask.control(shipped.instance, first);
  }
  return shipped.instance;
}

async function ended(round: Round, operation: Operation): Promise<void> {
  await waitFor(async () => hasEnded(await round.store.operation(null, operation.id)), {
    timeoutMs: round.options.endMs,
    what: `${operation.tool} to end`,
  });
}

async function everyOperation(round: Round): Promise<Operation[]> {
  return (await round.store.operations({ owner: null, limit: 50 })).items;
}

async function instances(round: Round): Promise<Instance[]> {
  return (await round.store.instances({ owner: null, limit: 50 })).items;
}

async function allEnded(round: Round): Promise<void> {
  await waitFor(async () => (await everyOperation(round)).every(hasEnded), {
    timeoutMs: round.options.endMs,
    what: "every operation to end",
  }).catch(async (error: Error) => {
    throw new Error(`${error.message} ${JSON.stringify(await everyOperation(round))}`);
  });
}

function checkOperations(operations: Operation[]): void {
  for (const { id, state, error, attempt } of operations) {
    if (state === "completed" ? error !== null : !error?.message) {
      throw new Error(`${id} is ${state} after ${attempt} attempts and says ${JSON.stringify(error)}`);
    }
  }
}

/** Waits until the worker has noticed the kills: the instance is in a state that only its owner changes. */
async function instanceAtRest(round: Round, id: Id<"vm">): Promise<void> {
  const resting = ["running", "paused", "stopped", "failed", "deleted"];
  await waitFor(async () => resting.includes((await round.store.instance(null, id)).state), {
    timeoutMs: round.options.endMs,
    what: `${id} to come to rest`,
  }).catch(async (error: Error) => {
    throw new Error(`${error.message} ${JSON.stringify(await round.store.instance(null, id))}`);
  });
}

/**
 * Compares records and machines. A machine that was killed just before the worker left is noticed by the next
 * one, so that on a difference the worker is started once more.
 */
async function checkAgreementWithRestart(round: Round): Promise<void> {
  await checkAgreement(round).catch(async () => {
    await startWorker(round);
    await allEnded(round);
    await stopWorker(round);
    await checkAgreement(round);
  });
  const machines = await machinesOf(round.site, round.options.drivers);
  const states = (records: { state: string; error?: { message: string } | null }[]) =>
    records.map(({ state, error }) => (error ? `${state} (${error.message})` : state)).join(" ");
  round.events.push(
    `then ${states(await instances(round)) || "no instance"} on ${states(machines) || "no machine"}`,
  );
}

async function checkAgreement(round: Round): Promise<void> {
  const machines = await machinesOf(round.site, round.options.drivers);
  const known = await instances(round);
  for (const machine of machines) {
    if (!known.some(({ machine_id }) => machine_id === machine.id)) {
      throw new Error(`the machine ${machine.id} belongs to nobody: ${JSON.stringify(machine)}`);
    }
  }
  for (const { id, state, machine_id, error, deployment_id } of known) {
    const real = machines.find((machine) => machine.id === machine_id)?.state ?? "absent";
    const agrees =
      state === "running" || state === "paused" ? real === state : real !== "running" && real !== "paused";
    if (!agrees) throw new Error(`${id} is said to be ${state}, and its machine is ${real}`);
    if (state === "failed" && !error?.message) throw new Error(`${id} failed and does not say why`);
    const deployment = deployment_id ? await round.store.deployment(null, deployment_id) : null;
    if (deployment && deployment.state !== "live") {
      throw new Error(`${id} shows the deployment ${deployment.id}, which is ${deployment.state}`);
    }
  }
  const { items: deployments } = await round.store.deployments({ owner: null, limit: 50 });
  for (const { id, state } of deployments) {
    if (state === "queued" || state === "deploying") throw new Error(`${id} is left ${state}`);
  }
  const { items: builds } = await round.store.builds({ owner: null, limit: 50 });
  for (const { id, state, image } of builds) {
    if (state === "queued" || state === "building") throw new Error(`${id} is left ${state}`);
    if (state === "ready" && !image) throw new Error(`${id} is ready without an image`);
  }
}

async function checkNothingLeft(round: Round): Promise<void> {
  const left = [
    ...(await instances(round)).map(({ id, state }) => `instance ${id} ${state}`),
    ...(await machinesOf(round.site, round.options.drivers)).map(({ id }) => `machine ${id}`),
    ...processesOf(round.site).map((each) => `process ${each}`),
    ...temporaryPaths(round.site).map((path) => `path ${path}`),
  ];
  if (left.length > 0) throw new Error(`left behind:\n  ${left.join("\n  ")}`);
}

async function startWorker(round: Round): Promise<void> {
  const script = fileURLToPath(new URL("worker.ts", import.meta.url));
  const child = spawn(
    process.execPath,
    ["--conditions=formation-source", script, round.site.root, round.options.drivers, round.node],
    { stdio: ["ignore", "pipe", "pipe"] },
  );
  round.child = child;
  let ready = false;
  child.stdout?.on("data", () => {
    ready = true;
  });
  child.stderr?.on("data", (chunk: Buffer) => round.log.push(chunk.toString()));
  await waitFor(
    () => {
      if (child.exitCode !== null || child.signalCode !== null) throw new Error("the worker did not start");
      return ready;
    },
    { timeoutMs: 60_000, everyMs: 20, what: "the worker to be ready" },
  );
}

async function killWorker(round: Round): Promise<void> {
  await endWorker(round, "SIGKILL");
}

async function stopWorker(round: Round): Promise<void> {
  await endWorker(round, "SIGTERM");
}

async function endWorker(round: Round, signal: NodeJS.Signals): Promise<void> {
  const { child } = round;
  round.child = null;
  if (!child || child.exitCode !== null || child.signalCode !== null) return;
  const gone = new Promise((resolve) => child.once("close", resolve));
  child.kill(signal);
  const limit = setTimeout(() => child.kill("SIGKILL"), 30_000);
  await gone;
  clearTimeout(limit);
  if (signal === "SIGTERM" && child.exitCode !== 0) {
    throw new Error(`the worker did not leave cleanly: ${child.exitCode ?? child.signalCode}`);
  }
}

/** Kills every process that runs in a machine's directory, as an out-of-memory killer would. */
function killMachines(site: Site): void {
  for (const each of processesOf({ ...site, root: site.hypervisor })) {
    if (!each.includes("worker.ts")) kill(Number(each.split(" ")[0]));
  }
}

function kill(pid: number): void {
  try {
    process.kill(pid, "SIGKILL");
  } catch {
    // It has ended by itself.
  }
}

function pick<T>(random: () => number, items: readonly T[]): T {
  return items[Math.floor(random() * items.length)] as T;
}
