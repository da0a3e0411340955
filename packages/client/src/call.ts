// One call of a tool. A call that starts an operation carries an idempotency key, so that a lost response can
// be asked for again and nothing is started twice. Progress comes from the operation's events.

import { LIMITS } from "@formation-mcp/contract";
import type { ToolName } from "@formation-mcp/tools";
import type { AuthorizedWire, RequestOptions } from "./authorized-wire.ts";
import { isObject } from "./errors.ts";
import { watchOperation } from "./watch.ts";

export interface Progress {
  step: string;
  message: string;
  /** 0 to 1, or null if unknown. Never falls within a call. */
  fraction: number | null;
}

export interface CallOptions extends RequestOptions {
  /** Called at each step of the operation that the call waits for. */
  onProgress?: ((progress: Progress) => void) | undefined;
}

/** The tools that start an operation and take an `idempotency_key`. All other tools are idempotent. */
const STARTING_TOOLS: ReadonlySet<string> = new Set<ToolName>([
  "pack_build",
  "pack_ship",
  "vm_create",
  "vm_control",
  "vm_delete",
]);

/** @returns the tool's output, as the server sends it. */
export async function callTool(
  wire: AuthorizedWire,
  tool: string,
  input: object,
  { signal, onProgress }: CallOptions,
): Promise<unknown> {
  const parameters: Record<string, unknown> = { ...input };
  if (STARTING_TOOLS.has(tool)) parameters["idempotency_key"] ??= randomKey();
  const began = performance.now();
  const seconds = waitSeconds(tool, parameters);
  const send = (sent: object, wait: number) =>
    wire.send({
      method: "POST",
      path: `/api/tools/${encodeURIComponent(tool)}`,
      json: { parameters: sent },
      repeatable: true,
      waitsMs: wait * 1000,
      signal,
    });
  if (!onProgress || seconds === 0) return send(parameters, seconds);

  const started =
    tool === "operation_get"
      ? { operation_id: parameters["id"] }
      : await send({ ...parameters, wait_seconds: 0 }, 0);
  const { operation_id: id, done } = isObject(started) ? started : {};
  if (done === true || typeof id !== "string") return started;
  const over = new AbortController();
  const until = signal ? AbortSignal.any([signal, over.signal]) : over.signal;
  const reporting = reportProgress(wire, id, onProgress, until);
  try {
    // The same call with the same key: it waits, and returns what the first call would have returned.
    const left = Math.max(0, seconds - (performance.now() - began) / 1000);
    return await send({ ...parameters, wait_seconds: left }, left);
  } finally {
    over.abort();
    await reporting;
  }
}

/**
 * Reports progress until the signal is aborted. Errors are dropped: the call itself reports what is wrong.
 */
async function reportProgress(
  wire: AuthorizedWire,
  id: string,
  onProgress: (progress: Progress) => void,
  signal: AbortSignal,
): Promise<void> {
  let last = "";
  let highest = 0;
  try {
    for await (const { progress } of watchOperation(wire, id, { signal })) {
      if (!progress || signal.aborted) continue;
      highest = Math.max(highest, progress.fraction ?? 0);
      const reported = { ...progress, fraction: progress.fraction === null ? null : highest };
      const text = JSON.stringify(reported);
      if (text !== last) onProgress(reported);
      last = text;
    }
  } catch {
    // Dropped, see above.
  }
}

/** How long the server may wait before it answers, in seconds. */
function waitSeconds(
  tool: string,
  { wait_seconds: wait = LIMITS.defaultWaitSeconds }: Record<string, unknown>,
): number {
  if (!STARTING_TOOLS.has(tool) && tool !== "operation_get") return 0;
  return typeof wait === "number" && wait > 0 && wait <= LIMITS.waitSeconds ? wait : 0;
}

function randomKey(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return `auto-${Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("")}`;
}
