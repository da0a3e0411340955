// Log lines on their way into the artifacts: gathered for a moment, written in order, and never in anybody's way.

import type { Artifacts, LogLine } from "@formation-mcp/artifacts";
import { type Clock, LIMITS, type Logger } from "@formation-mcp/contract";

/** What may wait in memory per record while the store of logs can't be written. */
const WAITING_LINES = 20_000;
const RETRY_MS = 1000;

export interface LogWriter {
  line(name: string, stream: string, text: string): void;
  /** Resolves when everything said so far about a record is written, or could not be. */
  flush(name: string): Promise<void>;
  /** The last lines of a record's log that were taken over since a time: for an error. */
  tail(name: string, since: number, streams?: string[]): Promise<string[]>;
  /** Forgets what waits and removes the log. */
  remove(name: string): Promise<void>;
  /** Writes what waits and forgets the record: no more lines are expected. */
  finish(name: string): Promise<void>;
  /** How many lines came for a record so far; to see whether it has gone quiet. */
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
      shed(entry, clock);
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
      shed(entry, clock);
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

function shed(entry: Entry, clock: Clock): void {
  if (entry.waiting.length <= WAITING_LINES) return;
  const text = "[lines were dropped here because the log could not be written]";
  entry.waiting = [{ at: clock.now(), stream: "console", text }, ...entry.waiting.slice(-WAITING_LINES / 2)];
}
