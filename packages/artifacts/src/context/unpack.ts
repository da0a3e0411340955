// What comes out of an archive that somebody else made: regular files, directories, and links that stay inside, made
// by us one by one below an empty directory. Links are made last, so that nothing can ever be written through one.

import { constants } from "node:fs";
import { chmod, lutimes, mkdir, open, readdir, realpath, symlink, utimes } from "node:fs/promises";
import { join } from "node:path";
import { FormationError } from "@formation-mcp/contract";
import { abortable, explained, FileSink } from "../streams.ts";
import { bounded, read } from "./read.ts";
import { type ContextLimits, ContextTree, type Making, understood } from "./tree.ts";

export interface UnpackOptions extends ContextLimits {
  signal?: AbortSignal;
}

/** All files are this old, so that the same context is the same to a layer cache; zip knows no time before 1980. */
const TIME = 315_619_200;

/**
 * Unpacks a context into an existing empty directory; modes become 0644 or 0755, owner and times are not taken over.
 * If it fails, part of it may be there and nothing anywhere else: the caller removes the directory.
 * @throws FormationError `invalid` for an archive that is none or that a context cannot be, `limit`, `cancelled`,
 *   `unavailable` if there is no space; and the stream's own.
 */
export async function unpackContext(
  stream: AsyncIterable<Uint8Array>,
  dir: string,
  options: UnpackOptions,
): Promise<void> {
  const place = "The directory for the context";
  const root = await explained(() => realpath(dir), place);
  if ((await explained(() => readdir(root), place)).length > 0) {
    throw new FormationError("internal", "A context is only unpacked into an empty directory.");
  }
  const tree = new ContextTree(options);
  try {
    for await (const entry of read(bounded(abortable(stream, options.signal), options))) {
      for (const making of tree.take(entry.header)) await make(root, making, entry.content);
      entry.discard();
    }
    await tree.finish();
    await finish(root, tree);
  } catch (error) {
    throw understood(error);
  }
}

async function make(root: string, making: Making, content: () => AsyncIterable<Uint8Array>): Promise<void> {
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
    await file.utimes(TIME, TIME);
  } finally {
    await file.close();
  }
}

/** Makes the links, once all else is there, and gives directories their time. */
async function finish(root: string, tree: ContextTree): Promise<void> {
  for (const made of tree.makings) {
    if (made.kind !== "link") continue;
    await symlink(made.target, join(root, made.name));
    await lutimes(join(root, made.name), TIME, TIME);
  }
  for (const { kind, name } of tree.makings)
    if (kind === "directory") await utimes(join(root, name), TIME, TIME);
}
