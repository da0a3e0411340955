// Logs as a result shows them: the end or a page, cleaned, fenced, and within the size of a result.

import { FormationError, type Id, LIMITS } from "@formation-mcp/contract";
import { findInstance } from "../access/ownership.ts";
import type { ControlDeps, ToolHandler } from "../deps.ts";
import { cleanLine, fence, jsonBytes, stampedLine } from "./untrusted-text.ts";

/** How much of a result a log may take, as JSON: quotes and backslashes count twice there. */
const VM_LOG_BYTES = LIMITS.resultBytes - 2000;
const BUILD_LOG_BYTES = 6000;

/** The end of a build's log, fenced. */
export async function buildLog(deps: ControlDeps, id: Id<"bld">, tail: number): Promise<string> {
  if (tail === 0) return fence([], "this build", deps.random);
  const { lines } = await deps.artifacts.readLog(id, { tail, maxBytes: 4 * BUILD_LOG_BYTES });
  return fence(
    lastFitting(
      lines.map((line) => cleanLine(line.text)),
      BUILD_LOG_BYTES,
    ),
    "this build",
    deps.random,
  );
}

export const vmLogs: ToolHandler<"vm_logs"> = async (deps, { principal, input }) => {
  const instance = await findInstance(deps, principal, input.instance);
  const since = input.since === undefined ? undefined : parseSince(input.since, deps.clock.now());
  let tail = input.tail;
  let maxBytes = VM_LOG_BYTES;
  let shortened = false;
  for (;;) {
    const read = await deps.artifacts.readLog(instance.id, {
      streams: input.streams ?? ["stdout", "stderr"],
      ...(input.cursor === undefined ? { tail } : { cursor: input.cursor }),
      ...(since === undefined ? {} : { since }),
      ...(input.grep === undefined ? {} : { grep: input.grep }),
      maxBytes,
    });
    const log = fence(read.lines.map(stampedLine), `the VM ${instance.name}`, deps.random);
    if (jsonBytes(log) > VM_LOG_BYTES && read.lines.length > 1) {
      tail = Math.max(1, Math.floor(read.lines.length / 2));
      maxBytes = Math.max(1, Math.floor(maxBytes / 2));
      shortened = true;
      continue;
    }
    const following = input.cursor !== undefined;
    const more = read.more || (shortened && !following);
    return {
      instance_id: instance.id,
      name: instance.name,
      lines: read.lines.length,
      log,
      cursor: read.cursor,
      more,
      next: !more
        ? "Call vm_logs with this cursor to read what comes later."
        : following
          ? "More lines follow: call vm_logs with this cursor."
          : "Older lines matched too but do not fit: narrow with grep, since or streams. The cursor reads what comes later.",
    };
  }
};

const UNIT_MS: Record<string, number> = { s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 };

/**
 * Parses a time (ISO 8601) or an age such as `10m`; returns epoch milliseconds.
 * @throws FormationError `invalid` if the text is neither.
 */
function parseSince(text: string, now: number): number {
  const age = /^(\d{1,9})([smhd])$/.exec(text);
  if (age) return now - Number(age[1]) * (UNIT_MS[age[2] ?? "s"] ?? 1000);
  const time = /^\d{4}-\d{2}-\d{2}/.test(text) ? Date.parse(text) : Number.NaN;
  if (!Number.isNaN(time)) return time;
  throw new FormationError("invalid", `since: ${JSON.stringify(text)} is neither a time nor an age.`, {
    field: "since",
    remedy: 'Write a time as "2026-01-31T12:00:00Z" or an age as "10m".',
  });
}

/** The last lines that fit into the budget (bytes of JSON) together. */
function lastFitting(lines: readonly string[], budget: number): string[] {
  let left = budget;
  const from = lines.findLastIndex((line) => {
    left -= jsonBytes(line);
    return left < 0;
  });
  return lines.slice(from + 1);
}
