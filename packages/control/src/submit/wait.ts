// Waits for the end of an operation: events wake it, and because events may be lost it also polls slowly.

import { Bell } from "@formation-mcp/base";
import { hasEnded, type Operation } from "@formation-mcp/contract";
import type { ControlDeps } from "../deps.ts";
import type { CallHooks } from "../port.ts";
import { cleanText } from "../results/untrusted-text.ts";

/** The poll interval: how long a lost event can delay a waiting call. */
const POLL_MS = 500;
/** How often a waiting call makes sure that a worker runs: the worker may have died meanwhile. */
const ENSURE_WORKER_EVERY_MS = 5000;

/**
 * Returns the operation once it has ended, the seconds are over, or the caller aborts, whichever comes first.
 * The operation itself goes on in any case.
 */
export async function waitForEnd(
  deps: ControlDeps,
  operation: Operation,
  seconds: number,
  hooks: CallHooks,
): Promise<Operation> {
  if (hasEnded(operation) || seconds <= 0 || hooks.signal?.aborted) return operation;
  const report = progressReporter(hooks);
  const woken = new Bell();
  const over = new AbortController();
  const timer = setTimeout(() => over.abort(), seconds * 1000);
  const onAbort = () => over.abort();
  hooks.signal?.addEventListener("abort", onAbort, { once: true });
  const ids = new Set<string>([operation.id, operation.target_id]);
  const subscription = await deps.queue
    .subscribe((event) => {
      if (ids.has(event.id)) woken.ring();
    })
    .catch(() => null);
  try {
    let seen = -1;
    let told = true;
    let current = operation;
    let ensured = Number.NEGATIVE_INFINITY;
    for (;;) {
      if (performance.now() - ensured >= ENSURE_WORKER_EVERY_MS) {
        ensured = performance.now();
        ensureWorker(deps);
      }
      const revision = deps.store.revision();
      // The store may hold what an event announces before its revision shows the write.
      if (told || revision !== seen) {
        seen = revision;
        current = await deps.store.operation(operation.owner, operation.id);
        if (hasEnded(current)) return current;
        report(current);
      }
      if (over.signal.aborted) return current;
      told = await woken.wait(POLL_MS, over.signal);
    }
  } finally {
    clearTimeout(timer);
    hooks.signal?.removeEventListener("abort", onAbort);
    await subscription?.[Symbol.asyncDispose]();
  }
}

/**
 * Starts a worker if there is none. It does not wait: if no worker can be started, the state and the deadline
 * of the operation show it.
 */
export function ensureWorker(deps: ControlDeps): void {
  deps.ensureWorker().catch((error: unknown) => {
    deps.logger.log("warn", "There is no worker.", {
      error: error instanceof Error ? error.message : String(error),
    });
  });
}

/**
 * Creates a function that reports each step once, with a fraction that never falls within the call: another
 * attempt begins again at 0.
 */
function progressReporter(hooks: CallHooks): (operation: Operation) => void {
  let highest = 0;
  let last = "";
  return ({ progress, state }) => {
    const step = cleanText(progress?.step ?? state, 80);
    const said = progress ? cleanText(progress.message, 300) : undefined;
    const message = said ?? (state === "queued" ? "Waiting for a worker." : "Started.");
    if (progress?.fraction != null) highest = Math.max(highest, progress.fraction);
    const now = `${step}\n${message}\n${highest}`;
    if (now === last) return;
    last = now;
    hooks.onProgress?.({ step, message, fraction: progress?.fraction == null ? null : highest });
  };
}
