// Unpacks an untrusted archive: regular files, directories, and links that stay inside, made one by one below
// an empty directory. Links are made last, so that nothing can be written through one.

import { constants } from "node:fs";
import { chmod, lutimes, mkdir, open, readdir, realpath, symlink, utimes } from "node:fs/promises";
import { join } from "node:path";
import { FormationError } from "@formation-mcp/contract";
import { abortable, FileSink, withFormationErrors } from "../streams.ts";
import { type ContextLimits, ContextTree, type PlannedEntry, toArchiveError } from "./context-tree.ts";
import { limitBytes, readEntries } from "./read-entries.ts";

export interface UnpackOptions extends ContextLimits {
  signal?: AbortSignal;
}

/**
 * The time of all files, so that a layer cache sees the same context as equal. Zip has no time before 1980.
 */
const FILE_TIME_S = 315_619_200;

/**
 * Unpacks a context into an existing empty directory. Modes become 0644 or 0755; owners and times are not
 * restored. If it fails, the directory may be partly filled, and nothing outside it is touched; the caller
 * removes it.
 * @throws FormationError `invalid` for a malformed archive or content that a context may not have, `limit`,
 *   `cancelled`, `unavailable` if there is no space; also the stream's own errors.
 */
export async function unpackContext(
  stream: AsyncIterable<Uint8Array>,
  dir: string,
  options: UnpackOptions,
): Promise<void> {
  const place = "The directory for the context";
  const root = await withFormationErrors(() => realpath(dir), place);
  if ((await withFormationErrors(() => readdir(root), place)).length > 0) {
    throw new FormationError("internal", "A context is only unpacked into an empty directory.");
  }
  const tree = new ContextTree(options);
  try {
    for await (const entry of readEntries(limitBytes(abortable(stream, options.signal), options))) {
      for (const making of tree.plan(entry.header)) await makeEntry(root, making, entry.content);
      entry.discard();
    }
    await tree.finish();
    await makeLinks(root, tree);
  } catch (error) {
    throw toArchiveError(error);
  }
}

async function makeEntry(
  root: string,
  making: PlannedEntry,
  content: () => AsyncIterable<Uint8Array>,
): Promise<void> {
  const path = join(root, making.name);
  if (making.kind === "link") return;
  if (making.kind === "directory") {
    await mkdir(path);
    await chmod(path, 0o755);
    return;
  }
  const flags = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW;
  const file = await open(path, flags, 0o600);
  try {
    const sink = new FileSink(file);
    for await (const chunk of content()) await sink.write(chunk);
    await sink.flush();
    await file.chmod(making.executable ? 0o755 : 0o644);
    await file.utimes(FILE_TIME_S, FILE_TIME_S);
  } finally {
    await file.close();
  }
}

/** Makes the links after everything else, and sets the times of directories. */
async function makeLinks(root: string, tree: ContextTree): Promise<void> {
  for (const made of tree.planned) {
    if (made.kind !== "link") continue;
    await symlink(made.target, join(root, made.name));
    await lutimes(join(root, made.name), FILE_TIME_S, FILE_TIME_S);
  }
  for (const { kind, name } of tree.planned)
    if (kind === "directory") await utimes(join(root, name), FILE_TIME_S, FILE_TIME_S);
}
