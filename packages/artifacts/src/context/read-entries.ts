// Reads an archive entry by entry, converts the tar reader's errors to FormationErrors, and releases
// everything at the end.

import { type Extract, extract } from "tar-stream";
import {
  archiveBytes,
  type ContextLimits,
  contextTooLarge,
  type TarEntry,
  toArchiveError,
} from "./context-tree.ts";
import { drained } from "./write-tar.ts";

/** Passes on at most as many bytes as an archive within the limits can have. */
export async function* limitBytes(
  stream: AsyncIterable<Uint8Array>,
  limits: ContextLimits,
): AsyncIterable<Uint8Array> {
  let left = archiveBytes(limits);
  for await (const chunk of stream) {
    left -= chunk.byteLength;
    if (left < 0) throw contextTooLarge(limits.maxBytes);
    yield chunk;
  }
}

export interface ReadEntry {
  header: TarEntry["header"];
  /** Its bytes; may be read once. A premature end throws the stream's own error. */
  content: () => AsyncIterable<Uint8Array>;
  /** Skips the bytes not yet read. */
  discard: () => void;
}

/** The entries of an archive; each must be read or discarded before the next. */
export async function* readEntries(stream: AsyncIterable<Uint8Array>): AsyncIterable<ReadEntry> {
  const archive = extract();
  let failure: { error: unknown } | undefined;
  const fed = feed(archive, stream).catch((error: unknown) => {
    failure ??= { error };
    archive.destroy(error as Error);
  });
  async function* contentOf(entry: TarEntry): AsyncIterable<Uint8Array> {
    try {
      yield* entry as AsyncIterable<Uint8Array>;
    } catch (error) {
      throw toArchiveError(failure?.error ?? error);
    }
  }
  try {
    for await (const entry of archive) {
      entry.on("error", () => {}); // the error is reported through the content
      yield { header: entry.header, content: () => contentOf(entry), discard: () => entry.resume() };
    }
    await fed;
    if (failure) throw failure.error;
  } catch (error) {
    throw toArchiveError(failure?.error ?? error);
  } finally {
    archive.destroy(null);
    await fed;
  }
}

async function feed(archive: Extract, stream: AsyncIterable<Uint8Array>): Promise<void> {
  for await (const chunk of stream) {
    if (archive.destroyed) return;
    if (!archive.write(chunk)) await drained(archive);
  }
  archive.end(undefined);
}
