// Cleans up what a comparison starts: directories, processes and servers are registered here, and are removed
// in reverse order when the comparison succeeds, fails or is interrupted.

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

  /** A temporary directory that is removed with the scope. Its path is short, because it holds sockets. */
  directory(): string {
    const path = mkdtempSync(join(tmpdir(), "fbn-"));
    this.defer(() => rmSync(path, { recursive: true, force: true, maxRetries: 5 }));
    return path;
  }

  /** Registers an action for the close of the scope; the last one registered runs first. */
  defer(undo: Undo): void {
    this.#undo.push(undo);
  }

  /** Runs every action once; a failure of one does not stop the others. */
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
