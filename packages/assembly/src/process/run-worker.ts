// The worker in this process: one for each state directory, from taking the lock to leaving when nothing is
// left to do.

import { mkdirSync } from "node:fs";
import { hostname } from "node:os";
import { setTimeout as delay } from "node:timers/promises";
import { parseArgs } from "node:util";
import { FormationError, type Logger } from "@formation-mcp/contract";
import type { Hypervisor } from "@formation-mcp/hypervisor";
import type { Store } from "@formation-mcp/operations";
import { identify, ownProfile, writeFileAtomic } from "@formation-mcp/os";
import { tryLock } from "@formation-mcp/os/sqlite";
import { createWorker, type NodeIdentity, type Worker } from "@formation-mcp/pack-manager";
import { type Backends, type OpenWorkerBackends, workerBackends } from "../open/backends.ts";
import { type Layout, openLayout } from "../open/layout.ts";
import { nodeCapacity, nodeId } from "../open/node.ts";
import { type NodeDrivers, openNodeDrivers } from "../open/node-drivers.ts";
import { type Configuration, readConfiguration } from "../settings/configuration.ts";
import { recordsPlace, type WorkerFile } from "./background-worker.ts";
import { jsonLogger } from "./logging.ts";

/** What a running worker uses. */
export interface WorkerParts extends Backends {
  hypervisor: Hypervisor;
  node: NodeIdentity;
}

export interface RunWorkerOptions {
  configuration: Configuration;
  logger: Logger;
  /** The program's version, for the node record and for newer programs. */
  version: string;
  /** Aborting it drains: running operations are finished or given back, VMs run on. */
  signal: AbortSignal;
  /** Aborting it while the worker drains gives back at once what still runs. */
  giveBack?: AbortSignal;
  /** How long running operations may go on while the worker drains. */
  drainMs?: number;
  /** Leave when idle; a daemon does not. */
  leaveWhenIdle: boolean;
  /** The node's name, and the labels that placement may ask for. Default: the host's name, no labels. */
  node?: { name: string; labels: Record<string, string> };
  openBackends: OpenWorkerBackends;
  /** Is given what the worker uses, once it is open, and returns the store that the worker is to use. */
  observe?: (parts: WorkerParts) => Store;
  /** Called when the worker is ready, and when it begins to leave. */
  onState?: (state: "ready" | "leaving") => void;
}

type WriteState = (state: WorkerFile["state"], error?: FormationError) => void;

/**
 * Runs the worker until the signal aborts or it is idle for `configuration.idleMs`.
 * @returns false if another worker holds the state directory.
 */
export async function runWorker(options: RunWorkerOptions): Promise<boolean> {
  const { configuration, logger, version } = options;
  const layout = openLayout(configuration.stateDir);
  using lock = await tryLock(layout.lock);
  if (!lock) return false;
  const keeps = recordsPlace(configuration);
  const writeState: WriteState = (state, error) => {
    const self = identify(process.pid) ?? { pid: process.pid, start_ticks: "" };
    const file: WorkerFile = {
      ...self,
      version,
      state,
      keeps,
      ...(error ? { error: error.toRecord() } : {}),
    };
    writeFileAtomic(layout.workerFile, JSON.stringify(file));
    if (state === "ready" || state === "leaving") options.onState?.(state);
  };
  writeState("starting");
  try {
    await openAndWork(options, layout, writeState);
    return true;
  } catch (thrown) {
    const error = FormationError.from(thrown, "The worker failed.");
    logger.log("error", error.message, { code: error.code, cause: error.cause });
    writeState("failed", error);
    throw error;
  }
}

/**
 * The command `worker` of a program that starts its own worker: runs it until SIGINT or SIGTERM. SIGHUP is
 * ignored, so that the worker outlives its terminal.
 * @param args `--state-dir DIR`; `--background`: leave when idle, and exit silently if another worker runs.
 * @param program the name is the command that the user typed.
 * @returns the exit code.
 */
export async function workerCommand(
  args: string[],
  program: { name: string; version: string },
): Promise<number> {
  const { values } = parseArgs({
    args,
    options: { background: { type: "boolean", default: false }, "state-dir": { type: "string" } },
  });
  const configuration = readConfiguration({ stateDir: values["state-dir"] });
  const leave = new AbortController();
  for (const signal of ["SIGINT", "SIGTERM"] as const) process.on(signal, () => leave.abort());
  process.on("SIGHUP", () => {});
  const ran = await runWorker({
    configuration,
    logger: jsonLogger(configuration.logLevel),
    version: program.version,
    signal: leave.signal,
    leaveWhenIdle: values.background,
    openBackends: workerBackends(configuration),
  });
  if (ran || values.background) return 0;
  process.stderr.write(`${program.name}: a worker already runs on ${configuration.stateDir}.\n`);
  return 1;
}

async function openAndWork(options: RunWorkerOptions, layout: Layout, writeState: WriteState): Promise<void> {
  const { configuration, logger, node = { name: hostname(), labels: {} } } = options;
  const identity = { id: nodeId(layout), ...node };
  const backends = await options.openBackends(layout, logger, identity);
  try {
    const drivers = await openNodeDrivers(layout, configuration, logger);
    try {
      const engine = await probe(drivers);
      mkdirSync(layout.scratch, { recursive: true, mode: 0o700 });
      const parts: WorkerParts = {
        ...backends,
        hypervisor: drivers.hypervisor,
        node: {
          ...identity,
          capacity: nodeCapacity(configuration, layout),
          engine,
          pid: process.pid,
          program: options.version,
        },
      };
      await work(options, layout, writeState, parts, drivers);
    } finally {
      await drivers.hypervisor.close();
    }
  } finally {
    await backends.close();
  }
}

/**
 * Names the drivers and their versions.
 * @throws FormationError `unavailable`, with what is missing and how to get it, if this machine cannot build
 *   or run.
 */
async function probe({ builder, hypervisor }: NodeDrivers): Promise<NodeIdentity["engine"]> {
  const [builds, runs] = [await builder.probe(), await hypervisor.probe()];
  if (!builds.ready || !runs.ready) {
    const problems = [...builds.problems, ...runs.problems];
    throw new FormationError(
      "unavailable",
      `This machine cannot build images and run VMs yet: ${problems.map((each) => each.problem).join(" ")}`,
      { remedy: problems.map((each) => each.remedy).join(" ") },
    );
  }
  return {
    builder: `${builds.driver} ${builds.version}`,
    hypervisor: `${runs.driver} ${runs.version}`,
    accelerator: runs.accelerator,
    profile: ownProfile(),
  };
}

async function work(
  options: RunWorkerOptions,
  layout: Layout,
  writeState: WriteState,
  parts: WorkerParts,
  { builder, hypervisor }: NodeDrivers,
): Promise<void> {
  const { configuration, logger, signal } = options;
  const { queue, artifacts, node } = parts;
  const worker = createWorker({
    store: options.observe?.(parts) ?? parts.store,
    queue,
    artifacts,
    builder,
    hypervisor,
    logger,
    scratchDir: layout.scratch,
    node,
    settings: workerSettings(configuration),
  });
  try {
    await worker.start();
    writeState("ready");
    logger.log("info", "The worker is ready.", {
      state_dir: layout.root,
      accelerator: node.engine.accelerator,
      node_id: node.id,
      name: node.name,
    });
    if (options.leaveWhenIdle) await untilIdle(worker, configuration.idleMs, signal, writeState);
    else {
      await aborted(signal);
      writeState("leaving");
    }
    const giveBack = options.giveBack ?? new AbortController().signal;
    await Promise.race([worker.drain(options.drainMs), aborted(giveBack)]);
  } finally {
    await worker.stop();
  }
}

function workerSettings({ build, leaseMs, cacheBytes, ...settings }: Configuration) {
  const { pollEveryMs, operationKeptMs, sweepEveryMs, unusedBuildKeptMs, bootMs } = settings;
  return {
    leaseMs,
    heartbeatEveryMs: leaseMs / 3,
    nodeSilentMs: leaseMs * 3,
    pollEveryMs,
    operationKeptMs,
    sweepEveryMs,
    unusedBuildKeptMs,
    cacheBudgetBytes: cacheBytes,
    buildMs: build.timeoutMs,
    buildDiskBytes: build.diskBytes,
    bootMs,
  };
}

/**
 * Returns when there has been nothing to do for `idleMs`. `leaving` is written before the last look for work.
 * A program that queues something reads the file after its commit. So either this look sees the work, or the
 * program sees `leaving`.
 */
async function untilIdle(
  worker: Worker,
  idleMs: number,
  signal: AbortSignal,
  writeState: WriteState,
): Promise<void> {
  let idleSince = performance.now();
  while (!signal.aborted) {
    if (!(await worker.idle())) idleSince = performance.now();
    else if (performance.now() - idleSince >= idleMs) {
      writeState("leaving");
      if (await worker.idle()) return;
      writeState("ready");
      idleSince = performance.now();
    }
    await delay(Math.min(1000, Math.max(50, idleMs / 4)), undefined, { signal }).catch(() => {});
  }
  writeState("leaving");
}

function aborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve();
  return new Promise((resolve) => signal.addEventListener("abort", () => resolve(), { once: true }));
}
