// The claim loop: whatever wakes it, it takes from the store until nothing fits, and again whenever something ended.

import { Bell, everyItem } from "@formation-mcp/base";
import {
  type ChangeEvent,
  controlSubject,
  FormationError,
  type Id,
  LIMITS,
  type Operation,
  quietly,
  SUBJECTS,
  type WakeMessage,
} from "@formation-mcp/contract";
import type { Consumer } from "@formation-mcp/queue";
import { type OperationHandler, type RunningAttempt, startAttempt } from "../attempt/attempt.ts";
import type { EndReason } from "../attempt/outcome.ts";
import type { WorkerDeps } from "../deps.ts";
import { buildHandler } from "../operations/build.ts";
import { deleteHandler } from "../operations/delete.ts";
import { shipHandler } from "../operations/ship.ts";
import { controlHandler } from "../operations/vm-control.ts";
import { unfinished } from "../reconcile/reconcile.ts";
import { freeCapacity } from "./capacity.ts";
import { createWakeConsumer } from "./wake-consumer.ts";
import { createWorkOffers } from "./work-offers.ts";

const HANDLERS: Record<Operation["input"]["kind"], OperationHandler> = {
  build: buildHandler,
  ship: shipHandler,
  control: controlHandler,
  delete: deleteHandler,
};

export interface Claims {
  /** Begins to claim and to hear wake-ups. */
  start(): Promise<void>;
  /** Something may be there to claim. */
  wake(): void;
  /** Whether this node takes what any node may take. */
  takeAny(takes: boolean): void;
  /** Takes up what an earlier process of this node left running: it is undone, then given back or ended. */
  adoptOrphans(): Promise<void>;
  /** A record changed: if it is an operation that runs here, it may be a cancel; if it waits, it may suit. */
  changed(event: ChangeEvent): void;
  /** Tells nodes of a queued operation; the queue's wake-up could not be sent. */
  tell(operation: Operation): Promise<void>;
  running(): number;
  building(): boolean;
  /** Whether an attempt runs that makes machines for a deployment. */
  makes(deployment: Id<"dep">): boolean;
  /** Takes nothing more. */
  close(): void;
  /** Ends what runs, and whatever a claim under way still brings. */
  endAll(reason: EndReason): void;
  /** Resolves when nothing runs. */
  settled(): Promise<void>;
}

/**
 * @param onEnded called after each attempt, with what it worked on.
 * @param appear makes sure that nobody takes this node for dead: what one brings up that is, is lost at once.
 */
export function createClaims(
  deps: WorkerDeps,
  onEnded: (operation: Operation) => void,
  appear: () => Promise<void>,
): Claims {
  const { store, node, settings, logger, clock } = deps;
  const own = controlSubject(node.id);
  const attempts = new Map<string, RunningAttempt>();
  const afterwards = new Set<Promise<void>>();
  const timers = new Set<NodeJS.Timeout>();
  let closed = false;
  let takesAny = true;
  let free = node.capacity;
  /** Why all that runs is to end: what a claim under way brings ends at once. */
  let ending: EndReason | null = null;
  /** Whether the store answered when it was last asked for work. */
  let answered = true;
  const bell = new Bell();
  /** Who waits for the end of the next round. */
  let waiting: (() => void)[] = [];

  const wake = () => bell.ring();
  /** Resolves when all that fits now has been claimed, or the store could not be asked. */
  const round = () =>
    new Promise<void>((resolve) => {
      if (closed) return resolve();
      waiting.push(resolve);
      wake();
    });
  const woken = async ({ operation_id }: WakeMessage) => {
    await round();
    if (operations().some(({ id }) => id === operation_id)) return;
    try {
      await passOn(await store.operation(null, operation_id));
    } catch (thrown) {
      // Whoever can ask the store may have it: this node can't even know what is needed.
      if (FormationError.from(thrown).code !== "not_found") await looking.tellAll(operation_id);
    }
  };
  const passOn = async (operation: Operation) => {
    if (operation.state === "queued" && operation.run_at <= clock.now()) await looking.tell(operation);
  };
  /** What waited for an operation to end may be another node's to do. */
  const passOnNext = async ({ input }: Operation) => {
    if (input.kind === "build") return;
    await round();
    const [next] = (await unfinished(deps, input.instance_id)).reverse();
    if (next) await passOn(next);
  };
  const looking = createWorkOffers(deps, wake);
  const [builds, ships] = [
    createWakeConsumer(deps, SUBJECTS.build, woken, wake),
    createWakeConsumer(deps, SUBJECTS.ship, woken, wake),
  ];
  const operations = () => [...attempts.values()].map((attempt) => attempt.operation);
  const buildsFull = () =>
    operations().filter(({ input }) => input.kind === "build").length >= settings.buildSlots;
  const pull = () => {
    const hasCapacity =
      attempts.size < settings.slots && free.vcpus > 0 && free.memory_mb > 0 && free.disk_gb > 0;
    const takes = takesAny && hasCapacity && answered && !closed;
    ships.want(takes);
    builds.want(takes && !buildsFull());
  };

  const run = (operation: Operation, claimedAt: number, orphan?: FormationError) => {
    const key = `${operation.id}.${operation.attempt}`;
    const attempt = startAttempt(deps, operation, HANDLERS[operation.input.kind], claimedAt, orphan);
    attempts.set(key, attempt);
    if (ending !== null) attempt.end(ending);
    deps.announcer.changed(operation.owner, operation.id);
    looking.has(operation);
    const after: Promise<void> = attempt.ended
      .then(async () => {
        attempts.delete(key);
        wake();
        onEnded(operation);
        const { state, run_at } = await store.operation(null, operation.id);
        if (state === "queued") wakeAt(run_at);
        else await passOnNext(operation);
      })
      .catch(() => {})
      .finally(() => afterwards.delete(after));
    afterwards.add(after);
  };
  const wakeAt = (time: number) => {
    if (closed) return;
    const timer = setTimeout(
      () => {
        timers.delete(timer);
        wake();
      },
      Math.min(Math.max(0, time - clock.now()) + 5, settings.pollEveryMs),
    );
    timers.add(timer);
  };
  /** Claims and begins one; returns whether there may be more. */
  const take = async (): Promise<boolean> => {
    if (attempts.size >= settings.slots) return false;
    await appear();
    free = await freeCapacity(deps, operations());
    const asked = deps.monotonic();
    const operation = await store.claim({
      node_id: node.id,
      subjects: [own, ...(takesAny ? [SUBJECTS.ship, ...(buildsFull() ? [] : [SUBJECTS.build])] : [])],
      labels: node.labels,
      free,
      leaseMs: settings.leaseMs,
    });
    if (operation) run(operation, asked);
    return operation !== null;
  };
  const loop = async () => {
    while (!closed) {
      const heard = waiting;
      waiting = [];
      answered = await quietly(deps.logger, "claim an operation", async () => {
        while (await take()) if (closed) break;
      });
      pull();
      for (const resolve of heard) resolve();
      if (!closed) await bell.wait(settings.pollEveryMs);
    }
    for (const resolve of waiting) resolve();
  };
  let looping: Promise<void> = Promise.resolve();
  let consumer: Consumer | null = null;

  return {
    async start() {
      consumer = await deps.queue.consume([own], { slots: 1, missed: wake }, () => round());
      looping = loop();
    },
    wake,
    takeAny(takes) {
      if (takesAny !== takes || !answered) wake();
      takesAny = takes;
    },
    async adoptOrphans() {
      const found = everyItem((cursor) =>
        store.operations({ owner: null, states: ["running"], limit: LIMITS.pageSize, cursor }),
      );
      for await (const operation of found) {
        if (operation.claimed_by !== node.id) continue;
        logger.log("info", "An operation was left running by an earlier process of this worker.", {
          operation: operation.id,
          attempt: operation.attempt,
        });
        run(operation, deps.monotonic(), orphaned());
      }
    },
    changed(event) {
      for (const attempt of attempts.values()) if (attempt.operation.id === event.id) attempt.look();
      if (!closed) looking.hear(event);
    },
    tell: (operation) => looking.tell(operation),
    running: () => attempts.size,
    building: () => operations().some(({ input }) => input.kind === "build" || input.kind === "ship"),
    makes: (deployment) =>
      operations().some(({ input }) => input.kind === "ship" && input.deployment_id === deployment),
    close() {
      closed = true;
      for (const timer of timers) clearTimeout(timer);
      looking.close();
      wake();
    },
    endAll(reason) {
      ending = reason;
      for (const attempt of attempts.values()) attempt.end(reason);
    },
    async settled() {
      await looping;
      await Promise.all([builds.close(), ships.close(), consumer?.close()]);
      consumer = null;
      while (attempts.size > 0) await Promise.all([...attempts.values()].map((attempt) => attempt.ended));
      await Promise.all(afterwards);
    },
  };
}

function orphaned(): FormationError {
  return new FormationError("unavailable", "The worker ended while it ran this operation.", {
    remedy: "Look at the worker's log; if the host was rebooted or ran out of memory, just try again.",
  });
}
