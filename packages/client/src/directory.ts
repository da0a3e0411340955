// A directory of this machine as a build's context on the server (Node alone): what is read here is decided by the same
// rules as when the server itself reads it.

import { packDirectory } from "@formation-mcp/artifacts/context";
import { LIMITS } from "@formation-mcp/contract";
import type { Client } from "./client.ts";
import type { UploadedContext } from "./upload.ts";

export interface UploadDirectoryOptions {
  dir: string;
  /** Files and directories below `dir`; `.` is all of it. */
  include: readonly string[];
  /** The directories that may be read; `dir` must really lie in one of them. */
  allow: readonly string[];
  /** Paths that never come along, whatever `include` says. */
  apart?: readonly string[];
  signal?: AbortSignal | undefined;
}

export interface UploadedDirectory extends UploadedContext {
  /** What was left out because it looks like a secret and `include` does not name it; at most 100 paths. */
  left_out: string[];
}

/**
 * Packs what `include` names of a directory and uploads it. `.dockerignore` is honoured, and what looks like a secret is
 * left out unless `include` names that very path.
 * @throws FormationError `forbidden` outside of `allow`, `invalid` for what cannot be packed, `limit`, and what an upload throws
 */
export async function uploadDirectory(
  client: Pick<Client, "upload">,
  options: UploadDirectoryOptions,
): Promise<UploadedDirectory> {
  const { dir, include, allow, apart = [], signal } = options;
  const packed = await packDirectory({
    dir,
    include: [...include],
    allow: [...allow],
    apart: [...apart],
    maxBytes: LIMITS.contextBytes,
    maxFiles: LIMITS.contextFiles,
    ...(signal ? { signal } : {}),
  });
  const uploaded = await client.upload(packed.stream, { signal });
  return { ...uploaded, left_out: packed.left_out };
}
