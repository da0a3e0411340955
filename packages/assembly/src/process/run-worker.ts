// The worker process: one per state directory, from taking the lock to leaving when nothing is left to do.

import { mkdirSync } from "node:fs";
import { setTimeout as delay } from "node:timers/promises";
import { parseArgs } from "node:util";
import { FormationError, type Logger } from "@formation-mcp/contract";
import type { Hypervisor } from "@formation-mcp/hypervisor";
import type { Store } from "@formation-mcp/operations";
import { identify, writeFileAtomic } from "@formation-mcp/os";
import { tryLock } from "@formation-mcp/os/sqlite";
import { createWorker, type NodeIdentity, type Worker } from "@formation-mcp/pack-manager";
import { type Engines, openEngines } from "../open/drivers.ts";
import { type Layout, openLayout } from "../open/layout.ts";
import { nodeCapacity, nodeId, nodeName } from "../open/node.ts";
import { type OpenWorkerRecords, openOwnWorkerRecords, type Records } from "../open/records.ts";
import { type Configuration, readConfiguration } from "../settings/configuration.ts";
import { keptIn, type WorkerFile } from "./background-worker.ts";
import { jsonLogger } from "./logging.ts";

/** What the worker works with, as soon as it is open. */
export interface WorkerParts extends Records {
  hypervisor: Hypervisor;
  node: NodeIdentity;
}

export interface RunWorkerOptions {
  configuration: Configuration;
  logger: Logger;
  /** The program's version, for the node record and for newer programs. */
  version: string;
  /** Aborting drains: what runs is finished or given back, VMs run on. */
  signal: AbortSignal;
  /** Aborting gives back at once what still runs while the worker drains. */
  hurry?: AbortSignal;
  /** How long what runs may go on while the worker drains. */
  drainMs?: number;
  /** Leave when idle; a daemon does not. */
  leaveWhenIdle: boolean;
  /** What the node is called, and what placement may ask for. Default: the host's name, no labels. */
  node?: { name: string | null; labels: Record<string, string> };
  /** Opens records, queue and artifacts for the node. */
  open: OpenWorkerRecords;
  /** Sees what the worker works with, and may put its own store before it. */
  attend?: (parts: WorkerParts) => Store;
  /** Called when it works, and when it begins to leave. */
  said?: (state: "ready" | "leaving") => void;
}

/**
 * Runs the worker until the signal aborts or it is idle for `configuration.idleMs`.
 * @returns false if another worker holds the state directory.
 */
export async function runWorker(options: RunWorkerOptions): Promise<boolean> {
  const { configuration, logger, version } = options;
  const layout = openLayout(configuration.stateDir);
  using lock = await tryLock(layout.lock);
  if (!lock) return false;
  const keeps = keptIn(configuration);
  const say = (state: WorkerFile["state"], error?: FormationError) => {
    const self = identify(process.pid) ?? { pid: process.pid, start_ticks: "" };
    const file: WorkerFile = {
      ...self,
      version,
      state,
      keeps,
      ...(error ? { error: error.toRecord() } : {}),
    };
    writeFileAtomic(layout.workerFile, JSON.stringify(file));
    if (state === "ready" || state === "leaving") options.said?.(state);
  };
  say("starting");
  try {
    await work(options, layout, say);
    return true;
  } catch (thrown) {
    const error = FormationError.from(thrown, "The worker failed.");
    logger.log("error", error.message, { code: error.code, cause: error.cause });
    say("failed", error);
    throw error;
  }
}

/**
 * The command `worker` of a program that starts its own worker: runs it until SIGINT or SIGTERM, and outlives its terminal.
 * @param args `--state-dir DIR`; `--background`: leave when idle, and be silent if another works already.
 * @param program as its user calls it.
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
  const open = openOwnWorkerRecords();
  const leave = new AbortController();
  for (const signal of ["SIGINT", "SIGTERM"] as const) process.on(signal, () => leave.abort());
  process.on("SIGHUP", () => {});
  const ran = await runWorker({
    configuration,
    logger: jsonLogger(configuration.logLevel),
    version: program.version,
    signal: leave.signal,
    leaveWhenIdle: values.background,
    open,
  });
  if (ran || values.background) return 0;
  process.stderr.write(`${program.name}: a worker already runs on ${configuration.stateDir}.\n`);
  return 1;
}

async function work(
  options: RunWorkerOptions,
  layout: Layout,
  say: (state: WorkerFile["state"]) => void,
): Promise<void> {
  const { name, labels = {} } = options.node ?? {};
  const identity = { id: nodeId(layout), name: name ?? nodeName(), labels };
  const records = await options.open(layout, options.logger, identity);
  try {
    const { builder, hypervisor } = await openEngines(layout, options.configuration, options.logger);
    try {
      await workWith(options, layout, say, { ...records, builder, hypervisor, node: identity });
    } finally {
      await hypervisor.close();
    }
  } finally {
    await records.close();
  }
}

async function workWith(
  options: RunWorkerOptions,
  layout: Layout,
  say: (state: WorkerFile["state"]) => void,
  opened: Records & Engines & { node: Pick<NodeIdentity, "id" | "name" | "labels"> },
): Promise<void> {
  const { configuration, logger, version, signal } = options;
  const { builder, hypervisor, queue, artifacts } = opened;
  const [builderReport, hypervisorReport] = [await builder.probe(), await hypervisor.probe()];
  const lacking = [...builderReport.problems, ...hypervisorReport.problems];
  if (!builderReport.ready || !hypervisorReport.ready) {
    throw new FormationError(
      "unavailable",
      `This machine cannot build images and run VMs yet: ${lacking.map((each) => each.problem).join(" ")}`,
      { remedy: lacking.map((each) => each.remedy).join(" ") },
    );
  }
  mkdirSync(layout.scratch, { recursive: true, mode: 0o700 });
  const node: NodeIdentity = {
    ...opened.node,
    capacity: nodeCapacity(configuration, layout),
    engine: {
      builder: `${builderReport.driver} ${builderReport.version}`,
      hypervisor: `${hypervisorReport.driver} ${hypervisorReport.version}`,
      accelerator: hypervisorReport.accelerator,
      profile: process.getuid?.() === 0 ? "root" : "user",
    },
    pid: process.pid,
    program: version,
  };
  const worker = createWorker({
    store: options.attend?.({ ...opened, node }) ?? opened.store,
    queue,
    artifacts,
    builder,
    hypervisor,
    logger,
    scratchDir: layout.scratch,
    node,
    settings: {
      leaseMs: configuration.leaseMs,
      heartbeatEveryMs: configuration.leaseMs / 3,
      nodeSilentMs: configuration.leaseMs * 3,
      pollEveryMs: configuration.pollEveryMs,
      operationKeptMs: configuration.operationKeptMs,
      sweepEveryMs: configuration.sweepEveryMs,
      unusedBuildKeptMs: configuration.unusedBuildKeptMs,
      cacheBudgetBytes: configuration.cacheBytes,
      buildMs: configuration.build.timeoutMs,
      buildDiskBytes: configuration.build.diskBytes,
      bootMs: configuration.bootMs,
    },
  });
  try {
    await worker.start();
    say("ready");
    logger.log("info", "The worker is ready.", {
      state_dir: layout.root,
      accelerator: node.engine.accelerator,
      node_id: node.id,
      name: node.name,
    });
    if (options.leaveWhenIdle) await untilIdle(worker, configuration.idleMs, signal, say);
    else {
      await aborted(signal);
      say("leaving");
    }
    const hurry = options.hurry ?? new AbortController().signal;
    await Promise.race([worker.drain(options.drainMs), aborted(hurry)]);
  } finally {
    await worker.stop();
  }
}

/**
 * Returns when there has been nothing to do for `idleMs`. `leaving` is written before the last look: a caller that
 * queues something reads the file after its commit, so either this look sees the work or the caller sees `leaving`.
 */
async function untilIdle(
  worker: Worker,
  idleMs: number,
  signal: AbortSignal,
  say: (state: WorkerFile["state"]) => void,
): Promise<void> {
  let idleSince = performance.now();
  while (!signal.aborted) {
    if (!(await worker.idle())) idleSince = performance.now();
    else if (performance.now() - idleSince >= idleMs) {
      say("leaving");
      if (await worker.idle()) return;
      say("ready");
      idleSince = performance.now();
    }
    await delay(Math.min(1000, Math.max(50, idleMs / 4)), undefined, { signal }).catch(() => {});
  }
  say("leaving");
}

function aborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve();
  return new Promise((resolve) => signal.addEventListener("abort", () => resolve(), { once: true }));
}
