// Copies the included files from the context to the directory that buildah reads: under their own names, with
// plain modes, and never through a link that leaves the context.

import { constants } from "node:fs";
import { chmod, copyFile, lstat, mkdir, readdir, readlink, realpath, symlink } from "node:fs/promises";
import { dirname, isAbsolute, join, normalize, relative, resolve } from "node:path";
import { FormationError } from "@formation-mcp/contract";

export interface StagedFiles {
  files: number;
  bytes: number;
}

/**
 * Copies `include` from the context into `target`. Files become readable by everyone (and executable if they
 * were), so that an image with a USER of its own can use them.
 * @throws FormationError `invalid` if a file is missing or leads out of the context, `limit` beyond
 *   `maxBytes`.
 */
export async function stageIncludes(
  include: readonly string[],
  contextDir: string | null,
  target: string,
  maxBytes: number,
  signal: AbortSignal,
): Promise<StagedFiles> {
  await mkdir(target, { recursive: true });
  await chmod(target, 0o755);
  const staged: StagedFiles = { files: 0, bytes: 0 };
  if (include.length === 0) return staged;
  if (contextDir === null) throw missing(include[0] as string, 0);
  const root = await realpath(contextDir);
  for (const [index, name] of include.entries()) {
    const path = normalize(name).replace(/\/+$/, "") || ".";
    if (isAbsolute(path) || path === ".." || path.startsWith("../") || name.includes("\0")) {
      throw outside(name, index);
    }
    const parent = await realpath(join(root, dirname(path))).catch(() => {
      throw missing(name, index);
    });
    if (!isInside(root, parent)) throw outside(name, index);
    const job = { root, name, index, staged, maxBytes, signal };
    await makeDirectories(target, dirname(path), job);
    const source = path === "." ? root : join(parent, path.slice(path.lastIndexOf("/") + 1));
    await copy(source, join(target, path), job);
  }
  return staged;
}

interface Copying {
  root: string;
  name: string;
  index: number;
  staged: StagedFiles;
  maxBytes: number;
  signal: AbortSignal;
}

async function copy(source: string, target: string, job: Copying): Promise<void> {
  if (job.signal.aborted) throw new FormationError("cancelled", "The build was cancelled.");
  const found = await lstat(source).catch(() => {
    throw missing(job.name, job.index);
  });
  if (found.isDirectory()) {
    await makeDirectory(target, job);
    for (const entry of await readdir(source)) await copy(join(source, entry), join(target, entry), job);
    return;
  }
  // Already there because it is included twice. A link is never written through.
  if ((await lstat(target).catch(() => null)) !== null) return;
  job.staged.files += 1;
  if (found.isSymbolicLink()) {
    const to = await readlink(source);
    if (isAbsolute(to) || !isInside(job.root, resolve(dirname(source), to)))
      throw outside(job.name, job.index);
    await symlink(to, target);
    return;
  }
  if (!found.isFile()) {
    throw new FormationError("invalid", `include: ${JSON.stringify(job.name)} is not a plain file.`, {
      field: `include[${job.index}]`,
      step: "include",
      remedy: "Include files and directories only; no sockets, pipes or devices.",
    });
  }
  job.staged.bytes += found.size;
  if (job.staged.bytes > job.maxBytes) {
    throw new FormationError("limit", `The included files hold more than ${job.maxBytes} bytes.`, {
      step: "include",
      remedy: "Include less, or fetch large files in a run line.",
    });
  }
  await copyFile(source, target, constants.COPYFILE_FICLONE);
  await chmod(target, (found.mode & 0o111) === 0 ? 0o644 : 0o755);
}

async function makeDirectories(target: string, path: string, job: Copying): Promise<void> {
  let at = target;
  for (const part of path.split("/").filter((one) => one !== "" && one !== ".")) {
    at = join(at, part);
    await makeDirectory(at, job);
  }
}

async function makeDirectory(path: string, job: Copying): Promise<void> {
  const there = await lstat(path).catch(() => null);
  if (there === null) await mkdir(path);
  else if (!there.isDirectory()) {
    throw new FormationError(
      "invalid",
      `include: ${JSON.stringify(job.name)} passes through a link or a file.`,
      {
        field: `include[${job.index}]`,
        step: "include",
        remedy: "Include a file by its own path, not through a link that is included as well.",
      },
    );
  }
  await chmod(path, 0o755);
}

function isInside(root: string, path: string): boolean {
  const way = relative(root, path);
  return way === "" || (way !== ".." && !way.startsWith("../") && !isAbsolute(way));
}

function missing(name: string, index: number): FormationError {
  return new FormationError(
    "invalid",
    `include: ${JSON.stringify(name)} is not among the files that came along.`,
    {
      field: `include[${index}]`,
      step: "include",
      remedy: "Send the file with the build, under exactly this path, or take it out of include.",
    },
  );
}

function outside(name: string, index: number): FormationError {
  return new FormationError("invalid", `include: ${JSON.stringify(name)} leads out of the context.`, {
    field: `include[${index}]`,
    step: "include",
    remedy: "Include paths relative to the context, and no links that leave it.",
  });
}
