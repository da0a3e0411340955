// Wakes this process when another process commits: a watch on the write-ahead log, and repeated checks
// shortly after, because inotify(7) may report the write before SQLite makes the commit visible. A slow poll
// covers what the watch misses.

import { type FSWatcher, watch } from "node:fs";
import type { Logger } from "@formation-mcp/contract";

const CHECK_AGAIN_MS = [3, 20, 100] as const;
/** The polling interval where files cannot be watched (no inotify watches left, a network file system). */
const UNWATCHED_POLL_MS = 50;

export class WalWatch {
  readonly #check: () => void;
  readonly #pollMs: number;
  readonly #logger: Logger;
  #watcher: FSWatcher | undefined;
  #poll: NodeJS.Timeout | undefined;
  #again: NodeJS.Timeout | undefined;

  /** `pollMs` 0 turns the slow poll off. */
  constructor(check: () => void, pollMs: number, logger: Logger) {
    this.#check = check;
    this.#pollMs = pollMs;
    this.#logger = logger;
  }

  /** Watches this file from now on, instead of the previous one. */
  start(walPath: string): void {
    this.stop();
    let pollMs = this.#pollMs;
    try {
      this.#watcher = watch(walPath, { persistent: false }, () => this.#changed());
      this.#watcher.on("error", () => {});
    } catch (error) {
      pollMs = UNWATCHED_POLL_MS;
      this.#logger.log("warn", "The queue's file cannot be watched; looking at it often instead.", {
        code: (error as NodeJS.ErrnoException).code,
      });
    }
    if (pollMs > 0) this.#poll = setInterval(this.#check, pollMs).unref();
  }

  stop(): void {
    this.#watcher?.close();
    this.#watcher = undefined;
    clearInterval(this.#poll);
    clearTimeout(this.#again);
    this.#again = undefined;
  }

  #changed(): void {
    this.#check();
    this.#checkAgain(0);
  }

  #checkAgain(step: number): void {
    const pause = CHECK_AGAIN_MS[step];
    clearTimeout(this.#again);
    if (pause === undefined || this.#watcher === undefined) return;
    this.#again = setTimeout(() => {
      this.#check();
      this.#checkAgain(step + 1);
    }, pause).unref();
  }
}
