// A worker: creates the parts, connects them, and starts and stops them in the right order.

import { mkdir, readdir, rm } from "node:fs/promises";
import { uptime } from "node:os";
import { join } from "node:path";
import { createKeyedLock } from "@formation-mcp/base";
import { type Clock, type Logger, quietly, silentLogger } from "@formation-mcp/contract";
import { uptimeMs } from "@formation-mcp/os";
import { createClaims } from "./claim/claims.ts";
import { adoptOrphans } from "./claim/orphans.ts";
import { createRunningAttempts } from "./claim/running-attempts.ts";
import type { NodeIdentity, Ports, WorkerDeps } from "./deps.ts";
import { isNodeIdle } from "./node/idle.ts";
import { createLostInstanceCheck } from "./node/lost-instances.ts";
import { createRegistration } from "./node/registration.ts";
import { createSteering } from "./node/steering.ts";
import { createImageHolds } from "./operations/image-holds.ts";
import { createPeriodicTasks } from "./periodic-tasks.ts";
import { createReconciler } from "./reconcile/reconcile.ts";
import { createSweeper } from "./reconcile/sweep.ts";
import { createChangeAnnouncer } from "./report/change-announcer.ts";
import { createLogFollowers } from "./report/log-followers.ts";
import { createLogWriter } from "./report/log-writer.ts";
import { DEFAULT_SETTINGS, type WorkerSettings } from "./settings.ts";

export interface WorkerOptions extends Ports {
  node: NodeIdentity;
  /** Where contexts are unpacked. Its content is removed when the worker starts. */
  scratchDir: string;
  /** Default: the store's. */
  clock?: Clock;
  /**
   * A monotonic clock in milliseconds, for leases. Default: the time since the host booted, including the
   * time it slept.
   */
  monotonic?: () => number;
  /** At least 0 and less than 1; for random pauses. */
  random?: () => number;
  /** Milliseconds since the epoch when the host booted. Default: from the host's uptime. */
  hostBootedAt?: () => number;
  logger?: Logger;
  settings?: Partial<WorkerSettings>;
}

export interface Worker {
  /**
   * Takes over what runs on this node, makes records and reality agree, and begins to claim operations.
   * @throws FormationError `unavailable` if the store, the builder or the hypervisor can't be used.
   */
  start(): Promise<void>;
  /**
   * Claims nothing more. Running attempts go on for at most `limitMs` (default `settings.drainMs`); then they
   * are given back to the queue.
   */
  drain(limitMs?: number): Promise<void>;
  /** Ends every attempt at once and gives it back. Machines run on; the ports stay open. */
  stop(): Promise<void>;
  /** Whether nothing runs, nothing is queued that this node may take, and none of its instances runs. */
  idle(): Promise<boolean>;
}

export function createWorker(options: WorkerOptions): Worker {
  const deps = createDeps(options);
  const { node, settings, logger, queue, builder, hypervisor } = deps;
  const closing: (() => Promise<unknown>)[] = [];
  let stopping: Promise<void> | null = null;
  const tasks = createPeriodicTasks(logger);
  const { attempts, registration, claims, reconciler, sweeper } = createParts(deps, () => stopping !== null);

  const listen = async () => {
    const unsubscribe = hypervisor.onChange(reconciler.machineChanged);
    closing.push(async () => unsubscribe());
    const heartbeat = tasks.start(
      settings.heartbeatEveryMs,
      "renew the node's heartbeat",
      registration.renew,
    );
    const steering = createSteering(deps, () => void heartbeat.run());
    const events = await queue.subscribe((event) => {
      claims.changed(event);
      if (event.id === node.id) steering.changed();
    }, node.id);
    closing.push(async () => {
      await events[Symbol.asyncDispose]();
      steering.close();
    });
  };
  const startTasks = () => {
    tasks.start(settings.nodeSilentMs / 3, "look for silent nodes", createLostInstanceCheck(deps));
    tasks.start(settings.reconcileEveryMs, "reconcile", reconciler.all);
    tasks.start(settings.sweepEveryMs, "sweep", async () => {
      await sweeper.run();
      claims.wake();
    });
  };
  const stop = async () => {
    const tasksStopped = tasks.stop();
    claims.close();
    attempts.endAll("shutdown");
    await claims.ended();
    for (const close of closing.reverse()) await quietly(logger, "close", close);
    await tasksStopped;
    await reconciler.close();
    await deps.followers.close();
    await deps.logs.close();
    await deps.announcer.close();
  };

  return {
    async start() {
      await builder.recover();
      await hypervisor.recover();
      await emptyDirectory(deps.scratchDir);
      await registration.renew();
      await sweeper.run();
      await adoptOrphans(deps, attempts);
      await reconciler.all();
      await listen();
      startTasks();
      await claims.start();
    },
    async drain(limitMs = settings.drainMs) {
      if (stopping !== null) return;
      claims.close();
      await quietly(logger, "say that the node drains", registration.startDraining);
      const limit = setTimeout(() => attempts.endAll("shutdown"), limitMs);
      await claims.ended();
      clearTimeout(limit);
    },
    stop() {
      stopping ??= stop();
      return stopping;
    },
    // Attempts are counted again at the end: one may have begun while the records were read.
    idle: async () => attempts.count() === 0 && (await isNodeIdle(deps)) && attempts.count() === 0,
  };
}

/**
 * Creates the parts of the worker. Each one uses only parts that are created before it; a later part learns
 * from an earlier one by a listener.
 */
function createParts(deps: WorkerDeps, isStopping: () => boolean) {
  const attempts = createRunningAttempts(deps);
  const registration = createRegistration(deps);
  const claims = createClaims(deps, attempts, registration.ensureHeard);
  const reconciler = createReconciler(deps, attempts.makesMachinesFor);
  const sweeper = createSweeper(deps, {
    mayAddImages: attempts.mayAddImages,
    offer: claims.offer,
    isStopping,
  });
  attempts.onEnded(({ input }) => {
    if (input.kind !== "build") reconciler.instanceChanged(input.instance_id);
  });
  registration.onRenewed(({ takesUnpinned, wasSilent }) => {
    claims.setTakesUnpinned(takesUnpinned);
    // The instances are `lost` until this node reports their state. The next heartbeat does not wait for it.
    if (wasSilent) void quietly(deps.logger, "reconcile", reconciler.all);
  });
  return { attempts, registration, claims, reconciler, sweeper };
}

function createDeps(options: WorkerOptions): WorkerDeps {
  const { store, queue, artifacts, builder, hypervisor, node, scratchDir } = options;
  const { logger = silentLogger, clock = store.clock } = options;
  const settings = { ...DEFAULT_SETTINGS, ...definedOnly(options.settings ?? {}) };
  const logs = createLogWriter(artifacts, clock, logger, settings.batchMs);
  const locks = createKeyedLock();
  return {
    store,
    queue,
    artifacts,
    builder,
    hypervisor,
    node,
    scratchDir,
    clock,
    monotonic: options.monotonic ?? uptimeMs,
    random: options.random ?? Math.random,
    hostBootedAt: options.hostBootedAt ?? (() => clock.now() - uptime() * 1000),
    logger,
    settings,
    announcer: createChangeAnnouncer(queue, logger),
    logs,
    followers: createLogFollowers(hypervisor, logs, logger),
    locks,
    imageHolds: createImageHolds(builder, locks),
  };
}

async function emptyDirectory(path: string): Promise<void> {
  await mkdir(path, { recursive: true, mode: 0o700 });
  for (const name of await readdir(path)) await rm(join(path, name), { recursive: true, force: true });
}

function definedOnly<T extends object>(given: T): T {
  return Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined)) as T;
}
