// Artifacts in a directory of this machine, shared by all processes of one user.

import { mkdir, readdir } from "node:fs/promises";
import { join } from "node:path";
import { type Clock, type Logger, silentLogger, systemClock } from "@formation-mcp/contract";
import { Blobs } from "./directory/blobs.ts";
import { checkLogName, isLogName } from "./directory/log-files.ts";
import { createLogSource } from "./directory/log-reader.ts";
import { LogWriter } from "./directory/log-writer.ts";
import { readPage } from "./log-pages.ts";
import type { Artifacts } from "./port.ts";
import { withFormationErrors } from "./streams.ts";

export interface DirectoryArtifactsOptions {
  /** A directory only for artifacts, created with mode 0700 if it is missing. */
  path: string;
  /** Measures the age of blobs. */
  clock?: Clock;
  logger?: Logger;
}

/**
 * Opens the artifacts of a directory, and removes temporary files that dead processes left.
 * @throws FormationError `unavailable` if the directory cannot be written.
 */
export async function openDirectoryArtifacts(options: DirectoryArtifactsOptions): Promise<Artifacts> {
  const blobs = new Blobs(options.path, options.clock ?? systemClock, options.logger ?? silentLogger);
  const logs = join(options.path, "logs");
  const directoryOf = (name: string) => {
    checkLogName(name);
    return join(logs, name);
  };
  const writer = new LogWriter(directoryOf);
  await withFormationErrors(async () => {
    await blobs.open();
    await mkdir(logs, { recursive: true, mode: 0o700 });
  });
  return {
    shared: false,
    put: (content, put) => withFormationErrors(() => blobs.put(content, put)),
    get: (digest) => withFormationErrors(() => blobs.get(digest)),
    stat: (digest) => withFormationErrors(() => blobs.stat(digest)),
    collect: (roots, olderThanMs) => withFormationErrors(() => blobs.collect(roots, olderThanMs)),
    appendLog: (name, lines) => withFormationErrors(() => writer.append(name, lines)),
    readLog: (name, query) =>
      withFormationErrors(async () => {
        const directory = directoryOf(name);
        return readPage(() => createLogSource(directory), query);
      }),
    removeLog: (name) => withFormationErrors(() => writer.remove(name)),
    logNames: () => withFormationErrors(async () => (await readdir(logs)).filter(isLogName).sort()),
    close: () => writer.idle(),
  };
}
