// Checks the outer format of an untrusted archive: optional gzip, then header by header (POSIX.1-2017, pax,
// "ustar Interchange Format"), an end mark, and only zeros after it. Tar readers are lenient here; this is
// strict, so that two readers cannot see different content in one archive. This folder knows what a build
// context may contain, and how it is packed and unpacked.

import { createGunzip } from "node:zlib";
import { errnoOf } from "../streams.ts";
import { damagedArchive } from "./context-tree.ts";
import { drained } from "./write-tar.ts";

const BLOCK_BYTES = 512;
/** The types whose header is followed by data. All other types must have none. */
const TYPES_WITH_DATA = new Set(["\0", "0", "7", "x", "g", "L", "K"]);

/**
 * Passes on the blocks of an archive.
 * @throws FormationError `invalid` if it has no end mark, or data after it.
 */
export async function* archiveBlocks(stream: AsyncIterable<Uint8Array>): AsyncIterable<Uint8Array> {
  const header = Buffer.alloc(BLOCK_BYTES);
  let filled = 0;
  let body = 0;
  let ended = false;
  for await (const chunk of stream) {
    for (let at = 0; at < chunk.byteLength; ) {
      if (ended) {
        for (; at < chunk.byteLength; at++)
          if (chunk[at] !== 0) throw damagedArchive("has something behind its end");
      } else if (body > 0) {
        const passed = Math.min(body, chunk.byteLength - at);
        body -= passed;
        at += passed;
      } else {
        const part = chunk.subarray(at, at + BLOCK_BYTES - filled);
        header.set(part, filled);
        filled += part.byteLength;
        at += part.byteLength;
        if (filled < BLOCK_BYTES) continue;
        filled = 0;
        if (header.every((byte) => byte === 0)) ended = true;
        else body = bytesAfter(header);
      }
    }
    yield chunk;
  }
  if (!ended) throw damagedArchive("ends too early");
}

/** How many bytes follow a header, padding included. */
function bytesAfter(header: Buffer): number {
  const size = /^ *([0-7]*)[ \0]*$/.exec(header.toString("latin1", 124, 136))?.[1];
  if (size === undefined) throw damagedArchive("has an entry without a size");
  const bytes = Number.parseInt(size || "0", 8);
  const type = String.fromCharCode(header[156] ?? 0);
  const name = header.subarray(0, 100);
  const end = name.indexOf(0);
  const isDirectory = name[(end === -1 ? name.length : end) - 1] === 0x2f;
  if (bytes > 0 && (!TYPES_WITH_DATA.has(type) || isDirectory)) {
    throw damagedArchive("has an entry that is no file, and yet holds bytes");
  }
  return Math.ceil(bytes / BLOCK_BYTES) * BLOCK_BYTES;
}

/**
 * Decompresses gzip (RFC 1952) if the bytes start with its magic number, else passes them on. `.gzip` says
 * which.
 */
export async function* decompressed(stream: AsyncIterable<Uint8Array>): AsyncIterable<Uint8Array> {
  const source = stream[Symbol.asyncIterator]();
  const first: Uint8Array[] = [];
  let known = 0;
  while (known < 2) {
    const next = await source.next();
    if (next.done) break;
    first.push(next.value);
    known += next.value.byteLength;
  }
  const head = Buffer.concat(first);
  const all = (async function* () {
    yield head;
    yield* { [Symbol.asyncIterator]: () => source };
  })();
  if (head[0] === 0x1f && head[1] === 0x8b) yield* gunzipped(all);
  else yield* all;
}

async function* gunzipped(stream: AsyncIterable<Uint8Array>): AsyncIterable<Uint8Array> {
  const gunzip = createGunzip();
  let failure: { error: unknown } | undefined;
  let sent = 0;
  const feed = async () => {
    for await (const chunk of stream) {
      if (gunzip.destroyed) return;
      // Data after the end would be dropped silently.
      if (gunzip.readableEnded) throw damagedArchive("has something behind its end");
      sent += chunk.byteLength;
      if (!gunzip.write(chunk)) await drained(gunzip);
    }
    gunzip.end();
  };
  const fed = feed().catch((error: unknown) => {
    failure ??= { error };
    gunzip.destroy(error as Error);
  });
  try {
    for await (const chunk of gunzip) yield chunk as Uint8Array;
    await fed;
    if (failure) throw failure.error;
    if (gunzip.bytesWritten !== sent) throw damagedArchive("has something behind its end");
  } catch (error) {
    const thrown = failure?.error ?? error;
    const own = errnoOf(thrown)?.startsWith("Z_") ?? false;
    throw own ? damagedArchive("is no whole gzip file", thrown) : thrown;
  } finally {
    gunzip.destroy();
    await fed;
  }
}
