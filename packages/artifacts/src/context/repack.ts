// A stranger's archive made into one of ours while it streams through: what goes in is judged, what comes out is written
// anew, so that not a byte of its headers is ever read again.

import { createHash } from "node:crypto";
import { FormationError } from "@formation-mcp/contract";
import type { Digest } from "../port.ts";
import { abortable } from "../streams.ts";
import { framed, unzipped } from "./archive-frame.ts";
import { bounded, read } from "./read.ts";
import { type ContextEntry, writeTar } from "./tar.ts";
import { type ContextLimits, ContextTree } from "./tree.ts";

export interface RepackOptions extends ContextLimits {
  /** How many bytes may be sent, compressed or not. */
  maxSentBytes: number;
  /** What the bytes that are sent must be. */
  expected?: Digest;
  signal?: AbortSignal;
}

/** What came, and what is in it. */
export interface RepackedSummary {
  /** Bytes sent, and their digest. */
  sent: { bytes: number; digest: Digest };
  /** How many files and links there are. */
  files: number;
  /** What the files hold together. */
  bytes: number;
}

export interface RepackedContext {
  /** The archive; it ends in an error if what was sent is not wholly good, so that it is never kept. */
  stream: AsyncIterable<Uint8Array>;
  /** Resolves once the stream has ended well. */
  summary(): RepackedSummary;
}

/**
 * Makes a context of a tar or tar.gz of unknown origin. Files and directories come through with plain modes, links if they
 * stay inside; times, owners and everything else are left behind.
 * @throws FormationError while streaming: `invalid` for an archive that is damaged, cut off or followed by something, for
 *   absolute and climbing paths, paths that come twice, hard links, links out, devices and pipes, and another digest than
 *   expected; `limit`; `cancelled`.
 */
export function repackContext(stream: AsyncIterable<Uint8Array>, options: RepackOptions): RepackedContext {
  const tree = new ContextTree(options);
  const hash = createHash("sha256");
  let sentBytes = 0;
  let summary: RepackedSummary | undefined;

  async function* counted(): AsyncIterable<Uint8Array> {
    for await (const chunk of abortable(stream, options.signal)) {
      sentBytes += chunk.byteLength;
      if (sentBytes > options.maxSentBytes) throw tooMuch(options.maxSentBytes);
      hash.update(chunk);
      yield chunk;
    }
  }

  async function* entries(): AsyncIterable<ContextEntry> {
    for await (const entry of read(bounded(framed(unzipped(counted())), options))) {
      for (const making of tree.take(entry.header)) {
        if (making.kind === "file") yield { ...making, content: entry.content };
        else yield making;
      }
      entry.discard();
    }
    await tree.finish();
    const digest: Digest = `sha256:${hash.digest("hex")}`;
    if (options.expected !== undefined && options.expected !== digest) throw other(digest, options.expected);
    const files = [...tree.makings].filter(({ kind }) => kind !== "directory").length;
    summary = { sent: { bytes: sentBytes, digest }, files, bytes: tree.bytes };
  }

  return {
    stream: writeTar(entries()),
    summary() {
      if (summary) return summary;
      throw new FormationError("internal", "The context has not been read to its end.");
    },
  };
}

/** One entry of a context. */
export interface ContextListing {
  path: string;
  type: "file" | "directory" | "link";
  /** What a file holds; 0 for the others. */
  bytes: number;
}

/**
 * Lists a context of ours, as `packFiles`, `packDirectory` and `repackContext` make them.
 * @throws FormationError `invalid` for what is none, and the stream's own.
 */
export async function* listContext(stream: AsyncIterable<Uint8Array>): AsyncIterable<ContextListing> {
  const tree = new ContextTree({ maxBytes: Number.MAX_SAFE_INTEGER, maxFiles: Number.MAX_SAFE_INTEGER });
  for await (const entry of read(stream)) {
    for (const making of tree.take(entry.header)) {
      yield { path: making.name, type: making.kind, bytes: making.kind === "file" ? making.bytes : 0 };
    }
    entry.discard();
  }
}

function tooMuch(maxBytes: number): FormationError {
  return new FormationError("limit", `More than ${maxBytes} bytes were sent.`, {
    field: "body",
    remedy: "Pack less, or compress it with gzip.",
  });
}

function other(digest: Digest, expected: Digest): FormationError {
  return new FormationError("invalid", `What was sent is ${digest}, not ${expected}.`, {
    field: "digest",
    remedy: "Send it again; if this happens again, it is changed on its way.",
  });
}
