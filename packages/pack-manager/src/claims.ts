// The claim loop: whatever wakes it, it takes from the store until nothing fits, and again whenever something ended.

import {
  controlSubject,
  FormationError,
  type Id,
  LIMITS,
  type Operation,
  SUBJECTS,
} from "@formation-mcp/contract";
import { type Kind, type RunningAttempt, startAttempt } from "./attempt.ts";
import { buildKind } from "./build.ts";
import { freeCapacity } from "./capacity.ts";
import { controlKind } from "./control.ts";
import type { EndReason } from "./endings.ts";
import { deleteKind } from "./remove.ts";
import { everyItem, quietly, type Room } from "./room.ts";
import { shipKind } from "./ship.ts";

const KINDS: Record<Operation["input"]["kind"], Kind> = {
  build: buildKind,
  ship: shipKind,
  control: controlKind,
  delete: deleteKind,
};

export interface Claims {
  /** The subjects whose wake-ups are for this node. */
  readonly subjects: string[];
  start(): void;
  /** Something may be there to claim. */
  wake(): void;
  /** Takes up what an earlier process of this node left running: it is undone, then given back or ended. */
  adoptOrphans(): Promise<void>;
  /** A record changed: if it is an operation that runs here, it may be a cancel. */
  changed(id: string): void;
  running(): number;
  building(): boolean;
  /** Whether an attempt runs that makes machines for a deployment. */
  makes(deployment: Id<"dep">): boolean;
  /** Takes nothing more. */
  close(): void;
  endAll(reason: EndReason): void;
  /** Resolves when nothing runs. */
  settled(): Promise<void>;
}

/** @param onEnded called after each attempt, with what it worked on. */
export function createClaims(room: Room, onEnded: (operation: Operation) => void): Claims {
  const { store, node, settings, logger, clock } = room;
  const subjects = [SUBJECTS.build, SUBJECTS.ship, controlSubject(node.id)];
  const attempts = new Map<string, RunningAttempt>();
  const afterwards = new Set<Promise<void>>();
  const timers = new Set<NodeJS.Timeout>();
  let awake = true;
  let closed = false;
  let rouse: () => void = () => {};

  const wake = () => {
    awake = true;
    rouse();
  };
  const operations = () => [...attempts.values()].map((attempt) => attempt.operation);
  const builds = () => operations().filter(({ input }) => input.kind === "build").length;

  const run = (operation: Operation, orphan?: FormationError) => {
    const key = `${operation.id}.${operation.attempt}`;
    const attempt = startAttempt(room, operation, KINDS[operation.input.kind], orphan);
    attempts.set(key, attempt);
    room.announcer.changed(operation.owner, operation.id);
    const after: Promise<void> = attempt.ended
      .then(async () => {
        attempts.delete(key);
        wake();
        onEnded(operation);
        const { state, run_at } = await store.operation(null, operation.id);
        if (state === "queued") wakeAt(run_at);
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
  const claim = async (): Promise<Operation | null> => {
    if (attempts.size >= settings.slots) return null;
    const full = builds() >= settings.buildSlots;
    return store.claim({
      node_id: node.id,
      subjects: full ? subjects.filter((subject) => subject !== SUBJECTS.build) : subjects,
      free: await freeCapacity(room, operations()),
      leaseMs: settings.leaseMs,
    });
  };
  const loop = async () => {
    while (!closed) {
      awake = false;
      await quietly(room, "claim an operation", async () => {
        for (let next = await claim(); next; next = closed ? null : await claim()) run(next);
      });
      if (awake || closed) continue;
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, settings.pollEveryMs);
        rouse = () => {
          clearTimeout(timer);
          resolve();
        };
      });
      rouse = () => {};
    }
  };
  let looping: Promise<void> = Promise.resolve();

  return {
    subjects,
    start() {
      looping = loop();
    },
    wake,
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
        run(operation, orphaned());
      }
    },
    changed(id) {
      for (const attempt of attempts.values()) if (attempt.operation.id === id) attempt.look();
    },
    running: () => attempts.size,
    building: () => operations().some(({ input }) => input.kind === "build" || input.kind === "ship"),
    makes: (deployment) =>
      operations().some(({ input }) => input.kind === "ship" && input.deployment_id === deployment),
    close() {
      closed = true;
      for (const timer of timers) clearTimeout(timer);
      rouse();
    },
    endAll(reason) {
      for (const attempt of attempts.values()) attempt.end(reason);
    },
    async settled() {
      await looping;
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
