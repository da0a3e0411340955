// How everything moves from one set of drivers to another, and into a backup: a directory with the records, the blobs that
// they name and the logs, as plain files. What is written is checked as it is read back: a blob by its digest.

import { createReadStream, createWriteStream } from "node:fs";
import { access, mkdir, readdir } from "node:fs/promises";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import type { Artifacts, Digest, LogLine } from "@formation-mcp/artifacts";
import { FormationError, LIMITS, type Logger } from "@formation-mcp/contract";
import { openBackends, serverBackends } from "../open/backends.ts";
import { openLayout } from "../open/layout.ts";
import { requireStore } from "../open/target.ts";
import type { HttpConfiguration } from "../settings/configuration.ts";

export interface Moved {
  records: number;
  blobs: number;
  logs: number;
}

/** Images are the largest: no blob is refused that was stored once. */
const BLOB_BYTES = 64 * 1024 ** 3;
const PAGE_BYTES = 4 * 1024 * 1024;
const DIGEST = /^[0-9a-f]{64}$/;

/**
 * Writes all that the configured drivers hold into a new directory, its user's alone. Servers and workers are stopped.
 * @throws FormationError `conflict` if the directory is there, or if somebody wrote meanwhile; `not_found` where nothing was
 *   ever kept.
 */
export async function exportAll(
  configuration: HttpConfiguration,
  to: string,
  logger: Logger,
): Promise<Moved> {
  requireStore(configuration);
  const backends = await openBackends(
    serverBackends(configuration, openLayout(configuration.stateDir), logger),
  );
  try {
    await newDirectory(to);
    const { exportStore } = await import("@formation-mcp/operations/postgres");
    const moved: Moved = { records: 0, blobs: 0, logs: 0 };
    await writeLines(join(to, "records.ndjson"), counted(exportStore(backends.store), moved));
    await mkdir(join(to, "blobs"), { mode: 0o700 });
    for (const digest of await backends.store.artifactRoots()) {
      if ((await backends.artifacts.stat(digest as Digest)) === null) {
        logger.log("warn", "A record names an artifact that is no more.", { digest });
        continue;
      }
      const content = Readable.from(await backends.artifacts.get(digest as Digest));
      await pipeline(content, newFile(join(to, "blobs", digest.slice("sha256:".length))));
      moved.blobs++;
    }
    await mkdir(join(to, "logs"), { mode: 0o700 });
    for (const name of await backends.artifacts.logNames()) {
      await writeLines(join(to, "logs", `${name}.ndjson`), logLines(backends.artifacts, name));
      moved.logs++;
    }
    return moved;
  } finally {
    await backends.close();
  }
}

/**
 * Reads what {@link exportAll} wrote into the configured drivers, whose records must be empty, or what an import left that was
 * killed: it is begun anew.
 * @throws FormationError `conflict` if there are records already, `invalid` for what is no export or was changed.
 */
export async function importAll(
  configuration: HttpConfiguration,
  from: string,
  logger: Logger,
): Promise<Moved> {
  await checkExport(from);
  const backends = await openBackends({
    ...serverBackends(configuration, openLayout(configuration.stateDir), logger),
    imports: true,
  });
  try {
    const { importStore } = await import("@formation-mcp/operations/postgres");
    const moved: Moved = { records: 0, blobs: 0, logs: 0 };
    const lines = counted(readLines(join(from, "records.ndjson")), moved);
    // Records last: none ever names what is not there.
    await importStore(backends.store, lines, () => importArtifacts(backends.artifacts, from, moved));
    return moved;
  } finally {
    await backends.close();
  }
}

/** Before anything is opened or made. */
async function checkExport(from: string): Promise<void> {
  for (const part of ["records.ndjson", "blobs", "logs"]) {
    await access(join(from, part)).catch((cause: NodeJS.ErrnoException) => {
      throw new FormationError(
        "invalid",
        `${from} is no export: there is no ${part} to be read (${cause.code}).`,
        {
          cause,
          remedy: "Name the directory that `formation-mcp-http export --to` wrote.",
        },
      );
    });
  }
}

async function importArtifacts(artifacts: Artifacts, from: string, moved: Moved): Promise<void> {
  for (const name of await readdir(join(from, "blobs"))) {
    if (!DIGEST.test(name)) throw new FormationError("invalid", `blobs/${name} is no part of an export.`);
    const expected: Digest = `sha256:${name}`;
    const content = createReadStream(join(from, "blobs", name));
    await artifacts.put(content, { maxBytes: BLOB_BYTES, expected });
    moved.blobs++;
  }
  for (const file of await readdir(join(from, "logs"))) {
    const name = file.replace(/\.ndjson$/, "");
    // An import that was killed may have left some of it.
    await artifacts.removeLog(name);
    await appendLines(artifacts, name, join(from, "logs", file));
    moved.logs++;
  }
}

async function newDirectory(path: string): Promise<void> {
  try {
    await mkdir(path, { mode: 0o700 });
  } catch (error) {
    const there = (error as NodeJS.ErrnoException).code === "EEXIST";
    throw new FormationError(
      there ? "conflict" : "unavailable",
      there ? `${path} is there already.` : `${path} cannot be made: ${(error as Error).message}.`,
      { cause: error, remedy: "Name a directory that is not there, in one that you can write." },
    );
  }
}

async function* counted(lines: AsyncIterable<string>, moved: Moved): AsyncGenerator<string> {
  for await (const line of lines) {
    moved.records++;
    yield line;
  }
}

async function writeLines(path: string, lines: AsyncIterable<string>): Promise<void> {
  await pipeline(Readable.from(ended(lines)), newFile(path));
}

async function* ended(lines: AsyncIterable<string>): AsyncGenerator<string> {
  for await (const line of lines) yield `${line}\n`;
}

function newFile(path: string) {
  return createWriteStream(path, { flags: "wx", mode: 0o600, flush: true });
}

async function* readLines(path: string): AsyncGenerator<string> {
  for await (const line of createInterface({
    input: createReadStream(path, "utf8"),
    crlfDelay: Number.POSITIVE_INFINITY,
  })) {
    if (line !== "") yield line;
  }
}

async function* logLines(artifacts: Artifacts, name: string): AsyncGenerator<string> {
  let cursor: string | undefined;
  for (let more = true; more; ) {
    const page = await artifacts.readLog(name, {
      maxBytes: PAGE_BYTES,
      ...(cursor === undefined ? {} : { cursor }),
    });
    for (const line of page.lines) yield JSON.stringify(line);
    ({ cursor, more } = page);
  }
}

async function appendLines(artifacts: Artifacts, name: string, path: string): Promise<void> {
  let batch: LogLine[] = [];
  let bytes = 0;
  const flush = async () => {
    if (batch.length > 0) await artifacts.appendLog(name, batch);
    batch = [];
    bytes = 0;
  };
  for await (const line of readLines(path)) {
    const { at, stream, text } = JSON.parse(line) as LogLine;
    batch.push({ at, stream, text });
    bytes += text.length;
    if (bytes > LIMITS.logLineBytes * 8) await flush();
  }
  await flush();
}
