// The files of virtual hosts: what the code under test makes below one path is kept in memory, so that no
// answer of a real disk comes at a moment that could not be replayed.

import fs from "node:fs";
import fsPromises from "node:fs/promises";
import { syncBuiltinESMExports } from "node:module";

/** Where virtual files are. */
export const SCRATCH = "/simulated";

const files = new Map<string, Buffer>();
const directories = new Set<string>();

/** What stands in a virtual file, or undefined if there is none. */
export function contentOf(path: string): string | undefined {
  return files.get(path)?.toString();
}

/** How many virtual files there are. */
export function fileCount(): number {
  return files.size;
}

function isBelow(path: string, directory: string): boolean {
  return path === directory || path.startsWith(`${directory}/`);
}

const VIRTUAL: Record<string, (path: string, ...given: unknown[]) => unknown> = {
  mkdir: (path) => void directories.add(path),
  realpath: (path) => path,
  readdir: (path) => {
    const inside = [...directories, ...files.keys()].filter((each) => each !== path && isBelow(each, path));
    return [...new Set(inside.map((each) => each.slice(path.length + 1).split("/")[0]))];
  },
  rm(path) {
    for (const each of files.keys()) if (isBelow(each, path)) files.delete(each);
    for (const each of directories) if (isBelow(each, path)) directories.delete(each);
  },
  chmod: () => {},
  utimes: () => {},
  open(path) {
    files.set(path, Buffer.alloc(0));
    return {
      async write(bytes: Uint8Array, from = 0) {
        files.set(path, Buffer.concat([files.get(path) ?? Buffer.alloc(0), bytes.subarray(from)]));
        return { bytesWritten: bytes.byteLength - from };
      },
      chmod: async () => {},
      utimes: async () => {},
      close: async () => {},
    };
  },
};

/** Puts the virtual files beside the real ones, for the rest of this process's life. */
export function installFiles(): void {
  for (const [name, act] of Object.entries(VIRTUAL)) {
    const real = Reflect.get(fsPromises, name) as (...given: unknown[]) => unknown;
    const either = async (path: unknown, ...given: unknown[]) =>
      typeof path === "string" && isBelow(path, SCRATCH) ? act(path, ...given) : real(path, ...given);
    Object.assign(fsPromises, { [name]: either });
  }
  // Nobody else writes the queue's file, and what inotify would report comes at no moment that could be
  // replayed.
  Object.assign(fs, { watch: () => ({ close() {}, on() {} }) });
  syncBuiltinESMExports();
}
