// A worker: the parts wired, in the order in which they must begin and end.

import { mkdir, readdir, rm } from "node:fs/promises";
import { uptime } from "node:os";
import { join } from "node:path";
import { createKeyedLock, everyItem, type PeriodicTask, startPeriodicTask } from "@formation-mcp/base";
import {
  type Clock,
  LIMITS,
  type Logger,
  logFailure,
  quietly,
  RESTING_STATES,
  silentLogger,
} from "@formation-mcp/contract";
import { createSilentNodeCheck } from "@formation-mcp/operations";
import { uptimeMs } from "@formation-mcp/os";
import { createClaims } from "./claim/claims.ts";
import type { NodeIdentity, Ports, WorkerDeps } from "./deps.ts";
import { createImageHolds } from "./operations/image-holds.ts";
import { createReconciler, instancesHere } from "./reconcile/reconcile.ts";
import { createSweeper } from "./reconcile/sweep.ts";
import { createChangeAnnouncer } from "./report/change-announcer.ts";
import { createLogFollowers } from "./report/log-followers.ts";
import { createLogWriter } from "./report/log-writer.ts";
import { DEFAULT_SETTINGS, type WorkerSettings } from "./settings.ts";

/** How often the node's record is looked at because an event says that it changed. */
const STEER_PAUSE_MS = 1000;

export interface WorkerOptions extends Ports {
  node: NodeIdentity;
  /** Where contexts are unpacked; whatever is in it when the worker starts is removed. */
  scratchDir: string;
  /** Default: the store's. */
  clock?: Clock;
  /** Milliseconds that never jump, for leases. Default: since the host booted, the time it slept included. */
  monotonic?: () => number;
  /** From 0 up to 1, for pauses. */
  random?: () => number;
  /** Milliseconds since the epoch when the host booted. Default: from the host's uptime. */
  hostBootedAt?: () => number;
  logger?: Logger;
  settings?: Partial<WorkerSettings>;
}

export interface Worker {
  /**
   * Takes back what runs on this node, makes records and reality agree, and begins to work.
   * @throws FormationError `unavailable` if the store, the builder or the hypervisor can't be used.
   */
  start(): Promise<void>;
  /** Takes nothing more; what runs goes on for at most `limitMs` (default `settings.drainMs`), then it is given back. */
  drain(limitMs?: number): Promise<void>;
  /** Ends at once: what runs is given back. Machines run on; the ports stay open. */
  stop(): Promise<void>;
  /** Whether nothing runs, nothing is queued that this node may take, and no instance of it runs. */
  idle(): Promise<boolean>;
}

export function createWorker(options: WorkerOptions): Worker {
  const { store, queue, hypervisor, builder, node, scratchDir } = options;
  const logger = options.logger ?? silentLogger;
  const clock = options.clock ?? options.store.clock;
  const settings = { ...DEFAULT_SETTINGS, ...definedOnly(options.settings ?? {}) };
  const logs = createLogWriter(options.artifacts, clock, logger, settings.batchMs);
  const locks = createKeyedLock();
  const followers = createLogFollowers(hypervisor, logs, logger);
  const deps: WorkerDeps = {
    store,
    queue,
    artifacts: options.artifacts,
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
    locks,
    imageHolds: createImageHolds(builder, locks),
    follow: followers.follow,
  };
  const claims = createClaims(
    deps,
    ({ input }) => {
      if (input.kind !== "build") reconciler.instanceChanged(input.instance_id);
    },
    async () => {
      if (deps.monotonic() - heardAt >= settings.nodeSilentMs / 2) await register();
    },
  );
  const reconciler = createReconciler(deps, claims.makes);
  const sweeper = createSweeper(deps, claims.building, claims.tell, () => stopping !== null);
  const closing: (() => Promise<unknown>)[] = [];
  const tasks: PeriodicTask[] = [];
  let draining = false;
  /** When the node's record was last written and read, by the monotonic clock. */
  let heardAt = deps.monotonic();
  let stopping: Promise<void> | null = null;

  const register = async () => {
    const { cordoned, drain } = await store.registerNode({ ...node, draining });
    const silent = deps.monotonic() - heardAt;
    heardAt = deps.monotonic();
    claims.takeAny(!cordoned && drain === null);
    // Others took this node for dead: its instances are lost until it says what they are. The next heartbeat waits for nothing.
    if (silent >= settings.nodeSilentMs) void quietly(deps.logger, "reconcile", reconciler.all);
  };
  const look = createSilentNodeCheck(store, settings.nodeSilentMs);
  const findLost = async () => {
    for (const { owner, id } of await look()) {
      logger.log("warn", "An instance is lost: its node fell silent.", { instance: id });
      deps.announcer.changed(owner, id);
    }
  };
  const every = (everyMs: number, what: string, action: () => Promise<unknown>) => {
    const task = startPeriodicTask({
      everyMs,
      action,
      onFailure: (thrown) => logFailure(logger, what, thrown),
    });
    tasks.push(task);
    // `stop` may be called while `start` still runs.
    if (stopping !== null) void task.stop();
    return task;
  };

  return {
    async start() {
      await builder.recover();
      await hypervisor.recover();
      await emptyDirectory(scratchDir);
      await register();
      await sweeper.run();
      await claims.adoptOrphans();
      await reconciler.all();
      const unsubscribe = hypervisor.onChange(reconciler.machineChanged);
      closing.push(async () => unsubscribe());
      const heartbeat = every(settings.heartbeatEveryMs, "renew the node's heartbeat", register);
      let due: NodeJS.Timeout | null = null;
      let steeredAt = Number.NEGATIVE_INFINITY;
      // Anybody who may send events may say that this node was steered.
      const steered = () => {
        due ??= setTimeout(
          () => {
            due = null;
            steeredAt = deps.monotonic();
            void heartbeat.run();
          },
          Math.max(0, steeredAt + STEER_PAUSE_MS - deps.monotonic()),
        );
      };
      const events = await queue.subscribe((event) => {
        claims.changed(event);
        if (event.id === node.id) steered();
      }, node.id);
      closing.push(async () => {
        await events[Symbol.asyncDispose]();
        if (due) clearTimeout(due);
      });
      every(settings.nodeSilentMs / 3, "look for silent nodes", findLost);
      every(settings.reconcileEveryMs, "reconcile", reconciler.all);
      every(settings.sweepEveryMs, "sweep", async () => {
        await sweeper.run();
        claims.wake();
      });
      await claims.start();
    },
    async drain(limitMs = settings.drainMs) {
      if (stopping !== null) return;
      draining = true;
      claims.close();
      await quietly(deps.logger, "say that the node drains", register);
      const limit = setTimeout(() => claims.endAll("shutdown"), limitMs);
      await claims.settled();
      clearTimeout(limit);
    },
    stop() {
      stopping ??= (async () => {
        const stopped = tasks.map((task) => task.stop());
        claims.close();
        claims.endAll("shutdown");
        await claims.settled();
        for (const close of closing.reverse()) await quietly(deps.logger, "close", close);
        await Promise.all(stopped);
        await reconciler.close();
        await followers.close();
        await logs.close();
        await deps.announcer.close();
      })();
      return stopping;
    },
    async idle() {
      if (claims.running() > 0) return false;
      const waiting = everyItem((cursor) =>
        store.operations({ owner: null, states: ["queued", "running"], limit: LIMITS.pageSize, cursor }),
      );
      for await (const operation of waiting) {
        const forUs = operation.node_id === null || operation.node_id === node.id;
        if (operation.state === "queued" ? forUs : operation.claimed_by === node.id) return false;
      }
      // What is stopped or failed is not started by itself, whatever is desired of it.
      for await (const { state } of instancesHere(deps)) {
        if (!RESTING_STATES.includes(state)) return false;
      }
      return claims.running() === 0;
    },
  };
}

async function emptyDirectory(path: string): Promise<void> {
  await mkdir(path, { recursive: true, mode: 0o700 });
  for (const name of await readdir(path)) await rm(join(path, name), { recursive: true, force: true });
}

function definedOnly<T extends object>(given: T): T {
  return Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined)) as T;
}
