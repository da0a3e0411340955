// What a comparison starts, it ends: directories, processes and servers are registered here, and go in
// reverse order whether the comparison succeeds, fails or is interrupted.

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

type Undo = () => unknown;

export class Scope {
  readonly #undo: Undo[] = [];
  readonly #ending = new AbortController();
  #closing: Promise<void> | null = null;

  /** Aborts as soon as the scope closes. */
  get signal(): AbortSignal {
    return this.#ending.signal;
  }

  /** A temporary directory that goes with the scope. Short, because sockets lie in it. */
  directory(): string {
    const path = mkdtempSync(join(tmpdir(), "fbn-"));
    this.defer(() => rmSync(path, { recursive: true, force: true, maxRetries: 5 }));
    return path;
  }

  /** Does something when the scope closes; what was deferred last is done first. */
  defer(undo: Undo): void {
    this.#undo.push(undo);
  }

  /** Undoes everything, once; a failure of one does not keep the others from being done. */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    this.#ending.abort();
    for (let undo = this.#undo.pop(); undo; undo = this.#undo.pop()) {
      try {
        await undo();
      } catch (error) {
        process.stderr.write(`bench: something could not be undone: ${String(error)}\n`);
      }
    }
  }
}
