// Packs a directory into one stream and unpacks it again, with tar. The same files give the same bytes. This
// folder knows what is in an image: references, configuration, process, Containerfile and archive.

import { type ChildProcessByStdio, spawn } from "node:child_process";
import { once } from "node:events";
import { lstatSync, readdirSync } from "node:fs";
import { join } from "node:path";
import type { Readable, Writable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { FormationError } from "@formation-mcp/contract";
import { plainEnvironment } from "@formation-mcp/os";

/** Options that keep the machine, the user and the time out of the archive. */
const REPRODUCIBLE_OPTIONS = [
  "--sort=name",
  "--mtime=@0",
  "--owner=0",
  "--group=0",
  "--numeric-owner",
  "--mode=u=rwX,go=rX",
];

const CLOSED_PIPE_CODES = ["EPIPE", "ECONNRESET", "ERR_STREAM_PREMATURE_CLOSE"];

/** Packs everything in a directory. */
export async function* packTree(directory: string, signal: AbortSignal): AsyncIterable<Uint8Array> {
  const tar = startTar(["-C", directory, "--format=gnu", ...REPRODUCIBLE_OPTIONS, "-cf", "-", "."], signal);
  try {
    tar.stdin.end();
    for await (const chunk of tar.stdout) yield chunk as Uint8Array;
    await tarEnded(tar, signal);
  } finally {
    tar.kill("SIGKILL");
  }
}

/**
 * Unpacks into an empty directory.
 * @throws FormationError `invalid` if it is no archive; also what the content throws.
 */
export async function unpackTree(
  content: AsyncIterable<Uint8Array>,
  directory: string,
  signal: AbortSignal,
): Promise<void> {
  const tar = startTar(
    ["-C", directory, "--no-same-owner", "--no-same-permissions", "--delay-directory-restore", "-xf", "-"],
    signal,
  );
  try {
    tar.stdout.resume();
    await pipeline(content, tar.stdin).catch((error: unknown) => {
      // A tar that failed stops reading; its exit code tells the reason.
      if (!CLOSED_PIPE_CODES.includes(String((error as NodeJS.ErrnoException).code))) throw error;
    });
    await tarEnded(tar, signal, "invalid");
  } finally {
    tar.kill("SIGKILL");
  }
}

/**
 * Checks a directory that was unpacked.
 * @throws FormationError `invalid` if it holds anything but plain files and directories.
 */
export function requirePlain(directory: string): void {
  for (const entry of readdirSync(directory, { recursive: true, withFileTypes: true })) {
    const found = lstatSync(join(entry.parentPath, entry.name));
    if (found.isDirectory() || (found.isFile() && found.nlink === 1)) continue;
    throw new FormationError("invalid", "The image's archive holds something that is no plain file.");
  }
}

type Tar = ChildProcessByStdio<Writable, Readable, null>;

function startTar(args: string[], signal: AbortSignal): Tar {
  const tar = spawn("tar", args, { stdio: ["pipe", "pipe", "ignore"], env: plainEnvironment(), signal });
  // `tarEnded` reports it; without a listener the error would end this process.
  tar.on("error", () => {});
  return tar;
}

async function tarEnded(
  tar: Tar,
  signal: AbortSignal,
  code: "unavailable" | "invalid" = "unavailable",
): Promise<void> {
  if (tar.exitCode === null && tar.signalCode === null && tar.pid !== undefined) await once(tar, "close");
  if (signal.aborted) throw new FormationError("cancelled", "Moving the image was cancelled.");
  if (tar.exitCode === 0) return;
  throw new FormationError(code, `tar ended with code ${tar.exitCode ?? "none"}.`);
}
