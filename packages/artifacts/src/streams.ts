// Byte streams: reads them with an abort signal, writes them to files, and explains errors of the file
// system.

import type { FileHandle } from "node:fs/promises";
import { FormationError } from "@formation-mcp/contract";

/**
 * Reads a stream until it ends or the signal aborts, even if the source is blocked.
 * @throws FormationError `cancelled`; the source's error if it is a FormationError, else `internal`.
 */
export async function* abortable(
  content: AsyncIterable<Uint8Array>,
  signal: AbortSignal | undefined,
): AsyncIterable<Uint8Array> {
  const iterator = content[Symbol.asyncIterator]();
  let ended = false;
  try {
    for (;;) {
      const next = await unlessAborted(iterator.next(), signal).catch((error: unknown) => {
        ended = !signal?.aborted;
        throw FormationError.from(error, "The content could not be read to its end.");
      });
      if (next.done) {
        ended = true;
        return;
      }
      yield next.value;
    }
  } finally {
    // A source that is blocked in next() would also block in return(), so return() is not awaited.
    if (!ended) void Promise.resolve(iterator.return?.()).catch(() => {});
  }
}

/**
 * Waits for a promise until the signal aborts. It does not use Promise.race with a long-lived promise, which
 * would retain every loser for as long as it lives.
 * @throws FormationError `cancelled`
 */
export function unlessAborted<T>(work: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (!signal) return work;
  return new Promise((resolve, reject) => {
    const stop = () =>
      reject(new FormationError("cancelled", "Reading or storing the content was cancelled."));
    if (signal.aborted) stop();
    signal.addEventListener("abort", stop, { once: true });
    work.then(resolve, reject).finally(() => signal.removeEventListener("abort", stop));
  });
}

/** Writes chunks to a file in larger pieces, because a tar stream consists mostly of headers and padding. */
export class FileSink {
  readonly #file: FileHandle;
  #waiting: Uint8Array[] = [];
  #bytes = 0;

  constructor(file: FileHandle) {
    this.#file = file;
  }

  async write(chunk: Uint8Array): Promise<void> {
    this.#waiting.push(chunk);
    this.#bytes += chunk.byteLength;
    if (this.#bytes >= 256 * 1024) await this.flush();
  }

  async flush(): Promise<void> {
    const bytes =
      this.#waiting.length === 1 && this.#waiting[0] ? this.#waiting[0] : Buffer.concat(this.#waiting);
    this.#waiting = [];
    this.#bytes = 0;
    for (let at = 0; at < bytes.byteLength; ) at += (await this.#file.write(bytes, at)).bytesWritten;
  }
}

export function errnoOf(error: unknown): string | undefined {
  return (error as NodeJS.ErrnoException | null)?.code;
}

/** Converts any error to a FormationError. Errors of the operating system say what to do about them. */
export function toFormationError(error: unknown, place = "The artifacts' directory"): FormationError {
  if (error instanceof FormationError) return error;
  const code = errnoOf(error);
  if (code === undefined) return FormationError.from(error);
  if (code === "ENOSPC" || code === "EDQUOT") {
    return new FormationError("unavailable", `${place} has no space left.`, {
      cause: error,
      remedy: "Free disk space, or remove builds that are no longer needed, and try again.",
    });
  }
  return new FormationError("unavailable", `${place} cannot be used (${code}).`, {
    cause: error,
    remedy: "Check that it is there, and its owner and mode, and that its disk works.",
  });
}

/** Runs an action and converts what it throws to a FormationError. */
export async function withFormationErrors<T>(action: () => Promise<T>, place?: string): Promise<T> {
  try {
    return await action();
  } catch (error) {
    throw toFormationError(error, place);
  }
}
