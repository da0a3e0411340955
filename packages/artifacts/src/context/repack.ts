// Rewrites an untrusted archive as one of ours while it streams through. The entries are checked and written
// anew, so nothing reads the original headers again.

import { createHash } from "node:crypto";
import { FormationError } from "@formation-mcp/contract";
import type { Digest } from "../port.ts";
import { abortable } from "../streams.ts";
import { archiveBlocks, decompressed } from "./archive-frame.ts";
import { type ContextLimits, ContextTree } from "./context-tree.ts";
import { limitBytes, readEntries } from "./read-entries.ts";
import { type ContextEntry, writeTar } from "./write-tar.ts";

export interface RepackOptions extends ContextLimits {
  /** The maximum bytes sent, compressed or not. */
  maxSentBytes: number;
  /** The expected digest of the bytes sent. */
  expected?: Digest;
  signal?: AbortSignal;
}

/** What was sent, and what it contains. */
export interface RepackedSummary {
  /** The bytes sent, and their digest. */
  sent: { bytes: number; digest: Digest };
  /** The number of files and links. */
  files: number;
  /** The bytes of all files together. */
  bytes: number;
}

export interface RepackedContext {
  /**
   * The archive. It ends with an error if anything sent is invalid, so that an invalid context is never
   * stored.
   */
  stream: AsyncIterable<Uint8Array>;
  /** What was repacked. Only after the stream has ended without an error. */
  summary(): RepackedSummary;
}

/**
 * Makes a context from a tar or tar.gz of unknown origin. Files and directories get plain modes; links are
 * kept if they stay inside; times, owners and everything else are dropped.
 * @throws FormationError while streaming: `invalid` for an archive that is damaged, truncated or followed by
 *   other data, for absolute paths and paths with `..`, duplicate paths, hard links, links that lead outside,
 *   devices and pipes, and a digest other than the expected one; `limit`; `cancelled`.
 */
export function repackContext(stream: AsyncIterable<Uint8Array>, options: RepackOptions): RepackedContext {
  const tree = new ContextTree(options);
  const hash = createHash("sha256");
  let sentBytes = 0;
  let summary: RepackedSummary | undefined;

  async function* counted(): AsyncIterable<Uint8Array> {
    for await (const chunk of abortable(stream, options.signal)) {
      sentBytes += chunk.byteLength;
      if (sentBytes > options.maxSentBytes) throw sentTooMuch(options.maxSentBytes);
      hash.update(chunk);
      yield chunk;
    }
  }

  async function* entries(): AsyncIterable<ContextEntry> {
    for await (const entry of readEntries(limitBytes(archiveBlocks(decompressed(counted())), options))) {
      for (const making of tree.plan(entry.header)) {
        if (making.kind === "file") yield { ...making, content: entry.content };
        else yield making;
      }
      entry.discard();
    }
    await tree.finish();
    const digest: Digest = `sha256:${hash.digest("hex")}`;
    if (options.expected !== undefined && options.expected !== digest)
      throw wrongDigest(digest, options.expected);
    const files = [...tree.planned].filter(({ kind }) => kind !== "directory").length;
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
  /** The bytes of a file; 0 for other entries. */
  bytes: number;
}

/**
 * Lists a context made by `packFiles`, `packDirectory` or `repackContext`.
 * @throws FormationError `invalid` if it is no such context; also the stream's own errors.
 */
export async function* listContext(stream: AsyncIterable<Uint8Array>): AsyncIterable<ContextListing> {
  const tree = new ContextTree({ maxBytes: Number.MAX_SAFE_INTEGER, maxFiles: Number.MAX_SAFE_INTEGER });
  for await (const entry of readEntries(stream)) {
    for (const making of tree.plan(entry.header)) {
      yield { path: making.name, type: making.kind, bytes: making.kind === "file" ? making.bytes : 0 };
    }
    entry.discard();
  }
}

function sentTooMuch(maxBytes: number): FormationError {
  return new FormationError("limit", `More than ${maxBytes} bytes were sent.`, {
    field: "body",
    remedy: "Pack less, or compress it with gzip.",
  });
}

function wrongDigest(digest: Digest, expected: Digest): FormationError {
  return new FormationError("invalid", `What was sent is ${digest}, not ${expected}.`, {
    field: "digest",
    remedy: "Send it again; if this happens again, it is changed on its way.",
  });
}
