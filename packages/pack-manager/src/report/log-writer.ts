// Writes log lines to the artifacts: in batches, in order, and without making the caller wait.

import type { Artifacts, LogLine } from "@formation-mcp/artifacts";
import { type Clock, LIMITS, type Logger } from "@formation-mcp/contract";

/** Bounds the lines per log that wait in memory while the artifacts can't be written. */
const MAX_WAITING_LINES = 20_000;
const RETRY_MS = 1000;

export interface LogWriter {
  /** @param name the id of the build or instance whose log it is. */
  line(name: string, stream: string, text: string): void;
  /** Resolves when every line so far is written, or one try to write them has failed. */
  flush(name: string): Promise<void>;
  /** The last lines since a time (milliseconds since the epoch), for an error. */
  tail(name: string, since: number, streams?: string[]): Promise<string[]>;
  /** Drops the lines that wait, and removes the log. */
  remove(name: string): Promise<void>;
  /** Writes the lines that wait. Call it when no more lines are expected. */
  finish(name: string): Promise<void>;
  /** How many lines came so far; to see whether the log has fallen silent. */
  count(name: string): number;
  close(): Promise<void>;
}

interface Entry {
  waiting: LogLine[];
  count: number;
  timer: NodeJS.Timeout | null;
  writing: Promise<void>;
}

export function createLogWriter(
  artifacts: Artifacts,
  clock: Clock,
  logger: Logger,
  batchMs: number,
): LogWriter {
  const entries = new Map<string, Entry>();
  let closed = false;

  const entryOf = (name: string): Entry => {
    let entry = entries.get(name);
    if (!entry) {
      entry = { waiting: [], count: 0, timer: null, writing: Promise.resolve() };
      entries.set(name, entry);
    }
    return entry;
  };

  const write = async (name: string, entry: Entry): Promise<void> => {
    if (entry.waiting.length === 0) return;
    const lines = entry.waiting;
    entry.waiting = [];
    try {
      await artifacts.appendLog(name, lines);
    } catch (error) {
      logger.log("warn", `Log lines wait: ${(error as Error).message}`, { log: name });
      entry.waiting = [...lines, ...entry.waiting];
      dropOldest(entry, clock);
      if (!closed) entry.timer ??= setTimeout(() => void flush(name), RETRY_MS);
    }
  };

  const flush = (name: string): Promise<void> => {
    const entry = entries.get(name);
    if (!entry) return Promise.resolve();
    if (entry.timer) clearTimeout(entry.timer);
    entry.timer = null;
    entry.writing = entry.writing.then(() => write(name, entry));
    return entry.writing;
  };

  return {
    line(name, stream, text) {
      const entry = entryOf(name);
      entry.waiting.push({ at: clock.now(), stream, text });
      entry.count++;
      dropOldest(entry, clock);
      entry.timer ??= setTimeout(() => void flush(name), batchMs);
    },
    flush,
    async tail(name, since, streams) {
      await flush(name);
      const page = await artifacts.readLog(name, {
        tail: LIMITS.errorLogLines,
        since,
        maxBytes: LIMITS.resultBytes,
        ...(streams ? { streams } : {}),
      });
      return page.lines.map((line) => line.text);
    },
    async remove(name) {
      const timer = entries.get(name)?.timer;
      if (timer) clearTimeout(timer);
      await entries.get(name)?.writing;
      entries.delete(name);
      await artifacts.removeLog(name);
    },
    async finish(name) {
      await flush(name);
      if (entries.get(name)?.waiting.length === 0) entries.delete(name);
    },
    count: (name) => entries.get(name)?.count ?? 0,
    async close() {
      closed = true;
      await Promise.all([...entries.keys()].map(flush));
      entries.clear();
    },
  };
}

function dropOldest(entry: Entry, clock: Clock): void {
  if (entry.waiting.length <= MAX_WAITING_LINES) return;
  const text = "[lines were dropped here because the log could not be written]";
  entry.waiting = [
    { at: clock.now(), stream: "console", text },
    ...entry.waiting.slice(-MAX_WAITING_LINES / 2),
  ];
}
