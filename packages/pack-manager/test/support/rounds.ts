// One round of violence on real processes: operations begin, the worker is killed at random moments and started again,
// and afterwards everything must be true. Every choice comes from the seed, so that a round can be played again.

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
import { clearSite, halfMade, machinesOf, machinesRunning, processesOf } from "./reality.ts";
import { formfile, type Requests, requests } from "./requests.ts";
import { type Drivers, type Site, siteAt } from "./site.ts";

export interface RoundOptions {
  drivers: Drivers;
  /** The formfile that is built; it must listen on the port it exposes. `port` is free in this round. */
  file(port: number): Partial<Formfile>;
  /** The longest an action usually takes, in milliseconds: the moments of the kills are chosen within it. */
  actionMs: number;
  /** How long everything may take to be at an end afterwards, in milliseconds. */
  endMs: number;
}

type Victim = "worker" | "machine" | "worker and machine";
const VICTIMS: Victim[] = ["worker", "worker", "worker", "machine", "worker and machine"];
const ACTIONS = ["build", "ship", "create", "replace", "control", "delete", "cancel"] as const;

interface Play {
  site: Site;
  node: Id<"node">;
  options: RoundOptions;
  store: Store;
  queue: Queue;
  ask: Requests;
  random: () => number;
  told: string[];
  log: string[];
  child: ChildProcess | null;
}

/** Plays a round and returns what happened; throws with the same and what was not true. */
export async function playRound(seed: number, options: RoundOptions): Promise<string> {
  const site = siteAt(mkdtempSync(join(tmpdir(), "pm-")));
  const store = await openSqliteStore({ path: site.store });
  const queue = await openEmbeddedQueue({ path: site.queue });
  const random = seededRandom(seed);
  const play: Play = {
    site,
    node: newId("node"),
    options,
    store,
    queue,
    ask: requests(store, queue),
    random,
    told: [],
    log: [],
    child: null,
  };
  // A round has one instance, so two machines that run at a time are that instance doubled.
  const doubled = new Set<string>();
  const watch = setInterval(() => {
    const running = machinesRunning(site, options.drivers);
    if (running.length > 1) doubled.add(running.join(" and "));
  }, 50);
  try {
    await scenes(play);
    if (doubled.size > 0) throw new Error(`ran at the same time: ${[...doubled].join("; ")}`);
    return `seed ${seed}: ${play.told.join(", ")}`;
  } catch (error) {
    await killWorker(play);
    await clearSite(site, options.drivers).catch((left: Error) =>
      play.log.push(`not cleared: ${left.message}`),
    );
    const lines = play.log.join("").split("\n").slice(-40).join("\n");
    throw new Error(
      `seed ${seed}: ${play.told.join(", ")}: ${error instanceof Error ? error.message : error}\n${lines}`,
      { cause: error },
    );
  } finally {
    clearInterval(watch);
    await killWorker(play);
    await queue.close();
    await store.close();
    for (const each of processesOf(site)) kill(Number(each.split(" ")[0]));
    rmSync(site.root, { recursive: true, force: true });
  }
}

async function scenes(play: Play): Promise<void> {
  const { random, options } = play;
  await startWorker(play);
  const port = 20_000 + Math.floor(random() * 20_000);
  const action = pick(random, ACTIONS);
  const victim = pick(random, VICTIMS);
  const begun = await begin(play, action, options.file(port));
  const kills = 1 + Math.floor(random() * 2);
  for (let i = 0; i < kills; i++) {
    const after = Math.floor(random() * options.actionMs);
    play.told.push(`${i === 0 ? action : "again"}, kill -9 ${victim} after ${after} ms`);
    await delay(after);
    if (victim !== "machine") await killWorker(play);
    if (victim !== "worker") killMachines(play.site);
    if (victim !== "machine") await startWorker(play);
  }
  await allEnded(play);
  checkOperations(await everyOperation(play));
  if (begun !== null) await settledInstance(play, begun);
  await stopWorker(play);
  await agreement(play);
  await startWorker(play);
  for (const instance of await instances(play)) await play.ask.remove(instance.id);
  await allEnded(play);
  await stopWorker(play);
  await checkNothingLeft(play);
}

/** Brings about what the action needs, begins it, and returns the instance it is about. */
async function begin(
  play: Play,
  action: (typeof ACTIONS)[number],
  file: Partial<Formfile>,
): Promise<Id<"vm"> | null> {
  const { ask, random } = play;
  if (action === "build") {
    await ask.build(file);
    return null;
  }
  if (action === "create" || action === "cancel") {
    const { instance, operation } = await ask.create(file);
    if (action === "cancel") {
      await delay(Math.floor(random() * play.options.actionMs));
      await play.store.requestCancel(null, operation.id);
    }
    return instance;
  }
  const built = await ask.build(file);
  await ended(play, built.operation);
  const shipped = await ask.ship(built.build, { file: formfile(file) });
  if (action === "ship") return shipped.instance;
  await ended(play, shipped.operation);
  if (action === "replace") await ask.ship(built.build, { replace: shipped.instance, file: formfile(file) });
  else if (action === "delete") await ask.remove(shipped.instance);
  else {
    const first = pick(random, CONTROL_ACTIONS);
    play.told.push(first);
    await ask.control(shipped.instance, first);
  }
  return shipped.instance;
}

async function ended(play: Play, operation: Operation): Promise<void> {
  await waitFor(async () => hasEnded(await play.store.operation(null, operation.id)), {
    timeoutMs: play.options.endMs,
    what: `${operation.tool} to end`,
  });
}

async function everyOperation(play: Play): Promise<Operation[]> {
  return (await play.store.operations({ owner: null, limit: 50 })).items;
}

async function instances(play: Play): Promise<Instance[]> {
  return (await play.store.instances({ owner: null, limit: 50 })).items;
}

async function allEnded(play: Play): Promise<void> {
  await waitFor(async () => (await everyOperation(play)).every(hasEnded), {
    timeoutMs: play.options.endMs,
    what: "every operation to end",
  }).catch(async (error: Error) => {
    throw new Error(`${error.message} ${JSON.stringify(await everyOperation(play))}`);
  });
}

function checkOperations(operations: Operation[]): void {
  for (const { id, state, error, attempt } of operations) {
    if (state === "completed" ? error !== null : !error?.message) {
      throw new Error(`${id} is ${state} after ${attempt} attempts and says ${JSON.stringify(error)}`);
    }
  }
}

/** What was killed is noticed: an instance comes to rest in a state that only the owner leaves. */
async function settledInstance(play: Play, id: Id<"vm">): Promise<void> {
  const resting = ["running", "paused", "stopped", "failed", "deleted"];
  await waitFor(async () => resting.includes((await play.store.instance(null, id)).state), {
    timeoutMs: play.options.endMs,
    what: `${id} to come to rest`,
  }).catch(async (error: Error) => {
    throw new Error(`${error.message} ${JSON.stringify(await play.store.instance(null, id))}`);
  });
}

/** A machine that was killed when the worker was about to leave is seen at the next worker's start; then records are true. */
async function agreement(play: Play): Promise<void> {
  await checkAgreement(play).catch(async () => {
    await startWorker(play);
    await allEnded(play);
    await stopWorker(play);
    await checkAgreement(play);
  });
  const machines = await machinesOf(play.site, play.options.drivers);
  const states = (records: { state: string; error?: { message: string } | null }[]) =>
    records.map(({ state, error }) => (error ? `${state} (${error.message})` : state)).join(" ");
  play.told.push(
    `then ${states(await instances(play)) || "no instance"} on ${states(machines) || "no machine"}`,
  );
}

async function checkAgreement(play: Play): Promise<void> {
  const machines = await machinesOf(play.site, play.options.drivers);
  const known = await instances(play);
  for (const machine of machines) {
    if (!known.some(({ machine_id }) => machine_id === machine.id)) {
      throw new Error(`the machine ${machine.id} belongs to nobody: ${JSON.stringify(machine)}`);
    }
  }
  for (const { id, state, machine_id, error, deployment_id } of known) {
    const real = machines.find((machine) => machine.id === machine_id)?.state ?? "absent";
    const true_ =
      state === "running" || state === "paused" ? real === state : real !== "running" && real !== "paused";
    if (!true_) throw new Error(`${id} is said to be ${state}, and its machine is ${real}`);
    if (state === "failed" && !error?.message) throw new Error(`${id} failed and does not say why`);
    const deployment = deployment_id ? await play.store.deployment(null, deployment_id) : null;
    if (deployment && deployment.state !== "live") {
      throw new Error(`${id} shows the deployment ${deployment.id}, which is ${deployment.state}`);
    }
  }
  const { items: deployments } = await play.store.deployments({ owner: null, limit: 50 });
  for (const { id, state } of deployments) {
    if (state === "queued" || state === "deploying") throw new Error(`${id} is left ${state}`);
  }
  const { items: builds } = await play.store.builds({ owner: null, limit: 50 });
  for (const { id, state, image } of builds) {
    if (state === "queued" || state === "building") throw new Error(`${id} is left ${state}`);
    if (state === "ready" && !image) throw new Error(`${id} is ready without an image`);
  }
}

async function checkNothingLeft(play: Play): Promise<void> {
  const left = [
    ...(await instances(play)).map(({ id, state }) => `instance ${id} ${state}`),
    ...(await machinesOf(play.site, play.options.drivers)).map(({ id }) => `machine ${id}`),
    ...processesOf(play.site).map((each) => `process ${each}`),
    ...halfMade(play.site).map((path) => `path ${path}`),
  ];
  if (left.length > 0) throw new Error(`left behind:\n  ${left.join("\n  ")}`);
}

async function startWorker(play: Play): Promise<void> {
  const script = fileURLToPath(new URL("worker.ts", import.meta.url));
  const child = spawn(
    process.execPath,
    ["--conditions=formation-source", script, play.site.root, play.options.drivers, play.node],
    { stdio: ["ignore", "pipe", "pipe"] },
  );
  play.child = child;
  let ready = false;
  child.stdout?.on("data", () => {
    ready = true;
  });
  child.stderr?.on("data", (chunk: Buffer) => play.log.push(chunk.toString()));
  await waitFor(
    () => {
      if (child.exitCode !== null || child.signalCode !== null) throw new Error("the worker did not start");
      return ready;
    },
    { timeoutMs: 60_000, everyMs: 20, what: "the worker to be ready" },
  );
}

async function killWorker(play: Play): Promise<void> {
  await endWorker(play, "SIGKILL");
}

async function stopWorker(play: Play): Promise<void> {
  await endWorker(play, "SIGTERM");
}

async function endWorker(play: Play, signal: NodeJS.Signals): Promise<void> {
  const { child } = play;
  play.child = null;
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
    // It went by itself.
  }
}

function pick<T>(random: () => number, items: readonly T[]): T {
  return items[Math.floor(random() * items.length)] as T;
}
