// Readiness: whether the server can serve now. Each part is really used. The answer names the parts that
// failed, and says nothing about the cause.

import type { Logger } from "@formation-mcp/contract";
import type { GatewayDeps } from "./deps.ts";

export interface Readiness {
  ready: boolean;
  parts: Record<string, "ok" | "failed">;
}

const CHECK_TIMEOUT_MS = 5000;
/** A result is returned again for this long, so that probes do not become a load. */
const CACHED_MS = 1000;

/** The check behind `/health/ready`: store (read and write), queue, artifacts, signing key. Never rejects. */
export function createReadiness(deps: GatewayDeps): () => Promise<Readiness> {
  const parts: Record<string, () => Promise<unknown>> = {
    store: async () => {
      await deps.documents.get("account", "none");
      await deps.counters.spend({ key: "health", limit: 1_000_000, windowMs: 60_000, amount: 1 });
    },
    queue: () => deps.queue.deadLetters(1),
    artifacts: () => deps.artifacts.put(once(Buffer.from("ready")), { maxBytes: 5 }),
    signing_key: () => deps.authority.ready(),
  };
  let last: { at: number; answer: Promise<Readiness> } | null = null;
  return () => {
    const now = deps.clock.now();
    if (deps.closing?.aborted) return Promise.resolve({ ready: false, parts: { leaving: "failed" } });
    if (last && now - last.at < CACHED_MS && now >= last.at) return last.answer;
    last = { at: now, answer: check(parts, deps.logger) };
    return last.answer;
  };
}

async function check(parts: Record<string, () => Promise<unknown>>, logger: Logger): Promise<Readiness> {
  const states = await Promise.all(
    Object.entries(parts).map(async ([name, use]): Promise<[string, "ok" | "failed"]> => {
      try {
        await within(use(), CHECK_TIMEOUT_MS);
        return [name, "ok"];
      } catch (error) {
        logger.log("warn", "A part of the server does not answer.", { part: name, error });
        return [name, "failed"];
      }
    }),
  );
  return { ready: states.every(([, state]) => state === "ok"), parts: Object.fromEntries(states) };
}

async function within<T>(promise: Promise<T>, ms: number): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`No answer within ${ms} ms.`)), ms);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

async function* once(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  yield bytes;
}
