// How an operation starts: a known idempotency key replays the earlier one; otherwise it is stored and a
// worker is woken. Then the call waits for it.

import { createHash } from "node:crypto";
import type { Principal } from "@formation-mcp/auth";
import { FormationError, LIMITS, type Operation } from "@formation-mcp/contract";
import type { Idempotency, Submission } from "@formation-mcp/operations";
import type { ControlDeps } from "../deps.ts";
import type { CallHooks } from "../port.ts";
import { operationError } from "../results/errors.ts";
import { waitForEnd } from "./wait.ts";

interface KeyedInput {
  idempotency_key?: string | undefined;
  wait_seconds: number;
}

/** How often a submission is made again because the instance changed in between (compare-and-set). */
const MAX_ATTEMPTS = 5;

/**
 * The idempotency key of a call, with a digest of what it asks for. A longer wait is the same request; other
 * token bounds make it another one. An admin who acts on another owner's records has separate keys there.
 */
function idempotencyOf({ principal, owner, input }: LongCall): Idempotency | undefined {
  const { idempotency_key, wait_seconds: _, ...asked } = input;
  if (idempotency_key === undefined) return undefined;
  const { bounds } = principal;
  const digest = createHash("sha256").update(canonical(bounds ? { asked, bounds } : asked));
  const key = principal.owner === owner ? idempotency_key : `${principal.owner} ${idempotency_key}`;
  return { key, inputDigest: digest.digest("hex") };
}

export interface LongCall {
  principal: Principal;
  /** The owner whose records are written. */
  owner: string;
  tool: string;
  input: KeyedInput;
  hooks: CallHooks;
}

/**
 * Returns the operation that a call starts (or started earlier, under the same key), after waiting for it.
 * `make` is called only to start something, and again if a record that it read has changed.
 * @throws FormationError what `make` throws, and the error of the operation if it failed or was cancelled
 *   while waiting.
 */
export async function startOperation(
  deps: ControlDeps,
  call: LongCall,
  make: () => Promise<Submission | JoinedOperation>,
): Promise<Operation> {
  const began = performance.now();
  const idempotency = idempotencyOf(call);
  const before = idempotency && (await deps.store.replay(call.owner, call.tool, idempotency));
  const operation = before ?? (await submit(deps, call, idempotency, make));
  // MCP hosts give up on a call after a fixed time, so the time to submit counts as waiting.
  const left = call.input.wait_seconds - (performance.now() - began) / 1000;
  const ended = await waitForEnd(deps, operation, left, call.hooks);
  if (ended.state === "failed" || ended.state === "cancelled") throw operationError(ended, deps.random);
  return ended;
}

/** An unfinished operation that already does what the call asks for. */
export interface JoinedOperation {
  joined: Operation;
}

async function submit(
  deps: ControlDeps,
  { principal, owner }: LongCall,
  idempotency: Idempotency | undefined,
  make: () => Promise<Submission | JoinedOperation>,
): Promise<Operation> {
  for (let attempt = 1; ; attempt += 1) {
    const submission = await make();
    if ("joined" in submission) return submission.joined;
    try {
      const quota = await deps.quotas?.of(owner);
      const { operation, replayed } = await submitAndWake(deps, {
        ...submission,
        // An admin's changes to another owner's records do not count among that owner's operations per
        // minute.
        ...(quota
          ? { quota: principal.owner === owner ? quota : { ...quota, operations_per_minute: null } }
          : {}),
        ...(idempotency ? { idempotency } : {}),
      });
      if (!replayed) await requireWorker(deps, operation);
      return operation;
    } catch (error) {
      const raced = error instanceof FormationError && error.code === "conflict" && submission.desire;
      if (!raced || attempt === MAX_ATTEMPTS) throw error;
    }
  }
}

/**
 * Stores a submission, wakes a worker, and emits an event for those who watch the operation. A replay does
 * neither. A wake-up that can't be sent is no error: the sweep sends it again. It does not start a worker:
 * drains on a server have none to start.
 * @throws FormationError as `Store.submit`
 */
export async function submitAndWake(
  { store, queue, logger }: Pick<ControlDeps, "store" | "queue" | "logger">,
  submission: Submission,
): Promise<{ operation: Operation; replayed: boolean }> {
  const submitted = await store.submit(submission);
  const { operation, replayed } = submitted;
  if (replayed) return submitted;
  const { id, subject, send } = operation;
  try {
    await queue.publish(subject, `${id}.${send}`, { v: 1, operation_id: id });
  } catch (error) {
    logger.log("warn", "A wake-up could not be sent; the sweep will send it.", {
      operation_id: id,
      error: error instanceof Error ? error.message : String(error),
    });
  }
  await announce({ queue }, operation);
  return submitted;
}

/**
 * Makes sure that a worker runs. If none can be started, the operation is cancelled, because no worker would
 * ever take it.
 */
async function requireWorker(deps: ControlDeps, operation: Operation): Promise<void> {
  try {
    await deps.ensureWorker();
  } catch (error) {
    await deps.store.requestCancel(operation.owner, operation.id).catch(() => undefined);
    throw error;
  }
}

/**
 * Emits an event that an operation changed, for waiting callers and for the worker that runs it. Events may
 * be lost without harm.
 */
export async function announce({ queue }: Pick<ControlDeps, "queue">, operation: Operation): Promise<void> {
  const { id, owner, claimed_by } = operation;
  const node = claimed_by === null ? {} : { for: claimed_by };
  await queue.emit({ v: 1, id, owner, ...node }).catch(() => undefined);
}

/**
 * The latest end of an operation that runs for at most `ms` per attempt, its time in the queue included
 * (epoch milliseconds).
 */
export function deadline(deps: ControlDeps, ms: number, queuedMs: number = LIMITS.queuedMs): number {
  return deps.clock.now() + queuedMs + LIMITS.attempts * ms;
}

/** JSON with sorted keys, so that equal values have equal texts. */
function canonical(value: unknown): string {
  return JSON.stringify(value, (_key, part: unknown) =>
    typeof part === "object" && part !== null && !Array.isArray(part)
      ? Object.fromEntries(Object.entries(part).sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0)))
      : part,
  );
}
