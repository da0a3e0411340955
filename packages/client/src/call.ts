// One call of a tool. What starts something carries an idempotency key, so that a lost answer is asked for again and
// nothing is started twice; what happens meanwhile is told from the operation's events.

import { LIMITS } from "@formation-mcp/contract";
import type { ToolName } from "@formation-mcp/tools";
import type { Asker, Waiting } from "./authorized-wire.ts";
import { isObject } from "./errors.ts";
import { watchOperation } from "./watch.ts";

export interface Progress {
  step: string;
  message: string;
  /** 0 to 1; null where nobody knows. Never falls within a call. */
  fraction: number | null;
}

export interface CallOptions extends Waiting {
  /** Told of each step of the operation that the call waits for. */
  onProgress?: ((progress: Progress) => void) | undefined;
}

/** The tools that take an `idempotency_key`, which are those that start something. All others change nothing when repeated. */
const STARTS: ReadonlySet<string> = new Set<ToolName>([
  "pack_build",
  "pack_ship",
  "vm_create",
  "vm_control",
  "vm_delete",
]);

export async function callTool(
  asker: Asker,
  tool: string,
  input: object,
  { signal, onProgress }: CallOptions,
): Promise<unknown> {
  const given: Record<string, unknown> = { ...input };
  if (STARTS.has(tool)) given["idempotency_key"] ??= randomKey();
  const began = performance.now();
  const seconds = waitOf(tool, given);
  const send = (parameters: object, wait: number) =>
    asker.send({
      method: "POST",
      path: `/api/tools/${encodeURIComponent(tool)}`,
      json: { parameters },
      repeatable: true,
      waitsMs: wait * 1000,
      signal,
    });
  if (!onProgress || seconds === 0) return send(given, seconds);

  const started =
    tool === "operation_get" ? { operation_id: given["id"] } : await send({ ...given, wait_seconds: 0 }, 0);
  const { operation_id: id, done } = isObject(started) ? started : {};
  if (done === true || typeof id !== "string") return started;
  const over = new AbortController();
  const telling = tell(asker, id, onProgress, signal ? AbortSignal.any([signal, over.signal]) : over.signal);
  try {
    // The same call under the same key: it waits, and answers as the first would have.
    const left = Math.max(0, seconds - (performance.now() - began) / 1000);
    return await send({ ...given, wait_seconds: left }, left);
  } finally {
    over.abort();
    await telling;
  }
}

/** Progress is a comfort: what goes wrong with it is nobody's business. */
async function tell(
  asker: Asker,
  id: string,
  onProgress: (progress: Progress) => void,
  signal: AbortSignal,
): Promise<void> {
  let last = "";
  let highest = 0;
  try {
    for await (const { progress } of watchOperation(asker, id, { signal })) {
      if (!progress || signal.aborted) continue;
      highest = Math.max(highest, progress.fraction ?? 0);
      const told = { ...progress, fraction: progress.fraction === null ? null : highest };
      const text = JSON.stringify(told);
      if (text !== last) onProgress(told);
      last = text;
    }
  } catch {
    // The call itself tells what is wrong.
  }
}

/** How long the server may wait before it answers, in seconds. */
function waitOf(
  tool: string,
  { wait_seconds: wait = LIMITS.defaultWaitSeconds }: Record<string, unknown>,
): number {
  if (!STARTS.has(tool) && tool !== "operation_get") return 0;
  return typeof wait === "number" && wait > 0 && wait <= LIMITS.waitSeconds ? wait : 0;
}

function randomKey(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return `auto-${Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("")}`;
}
