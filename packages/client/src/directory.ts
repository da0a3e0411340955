// Uploads a directory of this machine as a build's context (Node only). The rules of which files are read are
// the same as on the server.

import { packDirectory } from "@formation-mcp/artifacts/context";
import { LIMITS } from "@formation-mcp/contract";
import type { Client } from "./client.ts";
import type { UploadedContext } from "./upload.ts";

export interface UploadDirectoryOptions {
  dir: string;
  /** Files and directories below `dir`. `.` is the whole directory. */
  include: readonly string[];
  /** The directories that may be read. `dir` must be inside one of them, after resolving symbolic links. */
  allow: readonly string[];
  /** Paths that are never included, whatever `include` says. */
  apart?: readonly string[];
  signal?: AbortSignal | undefined;
}

export interface UploadedDirectory extends UploadedContext {
  /** Files left out because they look like secrets and `include` does not name them: at most 100 paths. */
  left_out: string[];
}

/**
 * Packs what `include` names of a directory and uploads it. `.dockerignore` applies, and files that look like
 * secrets are left out unless `include` names exactly that path.
 * @throws FormationError `forbidden` outside of `allow`, `invalid` for what cannot be packed, `limit`, and
 *   the errors of an upload
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
