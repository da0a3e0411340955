// The files of virtual hosts: paths below one directory are kept in memory, because answers of a real disk
// come at moments that can not be replayed.

import fs from "node:fs";
import fsPromises from "node:fs/promises";
import { syncBuiltinESMExports } from "node:module";

/** The directory of the virtual files. */
export const SCRATCH = "/simulated";

const files = new Map<string, Buffer>();
const directories = new Set<string>();

/** The content of a virtual file, or undefined if there is none. */
export function contentOf(path: string): string | undefined {
  return files.get(path)?.toString();
}

/** The number of virtual files. */
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

/** Adds the virtual files to node:fs for the rest of this process. */
export function installFiles(): void {
  for (const [name, act] of Object.entries(VIRTUAL)) {
    const real = Reflect.get(fsPromises, name) as (...given: unknown[]) => unknown;
    const either = async (path: unknown, ...given: unknown[]) =>
      typeof path === "string" && isBelow(path, SCRATCH) ? act(path, ...given) : real(path, ...given);
    Object.assign(fsPromises, { [name]: either });
  }
  // No other process writes the file of the queue, and inotify reports come at moments that can not be
  // replayed.
  Object.assign(fs, { watch: () => ({ close() {}, on() {} }) });
  syncBuiltinESMExports();
}
