// Export and import of everything that the drivers hold, for a backup or a move to other drivers. An export
// is a directory of plain files: the records, the blobs that they name, and the logs. An import verifies each
// blob by its digest.

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
import type { HttpConfiguration } from "../settings/http-configuration.ts";

/** How much was exported or imported. */
export interface TransferCounts {
  records: number;
  blobs: number;
  logs: number;
}

/** The bound of an imported blob; images are the largest. */
const MAX_BLOB_BYTES = 64 * 1024 ** 3;
/** How much of a log is read at a time. */
const PAGE_BYTES = 4 * 1024 * 1024;
const DIGEST = /^[0-9a-f]{64}$/;

/**
 * Writes everything that the configured drivers hold into a new directory, private to its user. Servers and
 * workers must be stopped.
 * @throws FormationError `conflict` if the directory exists or if a process writes meanwhile, `not_found` if
 *   the state directory has no records.
 */
export async function exportAll(
  configuration: HttpConfiguration,
  to: string,
  logger: Logger,
): Promise<TransferCounts> {
  requireStore(configuration);
  const backends = await openBackends(
    serverBackends(configuration, openLayout(configuration.stateDir), logger),
  );
  try {
    await newDirectory(to);
    const { exportStore } = await import("@formation-mcp/operations/postgres");
    const counts: TransferCounts = { records: 0, blobs: 0, logs: 0 };
    await writeLines(join(to, "records.ndjson"), counted(exportStore(backends.store), counts));
    await mkdir(join(to, "blobs"), { mode: 0o700 });
    for (const digest of await backends.store.artifactRoots()) {
      if ((await backends.artifacts.stat(digest as Digest)) === null) {
        logger.log("warn", "A record names an artifact that is no more.", { digest });
        continue;
      }
      const content = Readable.from(await backends.artifacts.get(digest as Digest));
      await pipeline(content, newFile(join(to, "blobs", digest.slice("sha256:".length))));
      counts.blobs++;
    }
    await mkdir(join(to, "logs"), { mode: 0o700 });
    for (const name of await backends.artifacts.logNames()) {
      await writeLines(join(to, "logs", `${name}.ndjson`), logLines(backends.artifacts, name));
      counts.logs++;
    }
    return counts;
  } finally {
    await backends.close();
  }
}

/**
 * Reads what {@link exportAll} wrote into the configured drivers. They must hold no records but those of an
 * import that was killed; such an import begins again.
 * @throws FormationError `conflict` if there are records, `invalid` if this is no export or was changed.
 */
export async function importAll(
  configuration: HttpConfiguration,
  from: string,
  logger: Logger,
): Promise<TransferCounts> {
  await checkExport(from);
  const backends = await openBackends({
    ...serverBackends(configuration, openLayout(configuration.stateDir), logger),
    imports: true,
  });
  try {
    const { importStore } = await import("@formation-mcp/operations/postgres");
    const counts: TransferCounts = { records: 0, blobs: 0, logs: 0 };
    const lines = counted(readLines(join(from, "records.ndjson")), counts);
    // Records last, so that no record names a missing artifact.
    await importStore(backends.store, lines, () => importArtifacts(backends.artifacts, from, counts));
    return counts;
  } finally {
    await backends.close();
  }
}

/** Checked before anything is opened or created. */
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

async function importArtifacts(artifacts: Artifacts, from: string, counts: TransferCounts): Promise<void> {
  for (const name of await readdir(join(from, "blobs"))) {
    if (!DIGEST.test(name)) throw new FormationError("invalid", `blobs/${name} is no part of an export.`);
    const expected: Digest = `sha256:${name}`;
    const content = createReadStream(join(from, "blobs", name));
    await artifacts.put(content, { maxBytes: MAX_BLOB_BYTES, expected });
    counts.blobs++;
  }
  for (const file of await readdir(join(from, "logs"))) {
    const name = file.replace(/\.ndjson$/, "");
    // A killed import may have left a part of it.
    await artifacts.removeLog(name);
    await appendLines(artifacts, name, join(from, "logs", file));
    counts.logs++;
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

async function* counted(lines: AsyncIterable<string>, counts: TransferCounts): AsyncGenerator<string> {
  for await (const line of lines) {
    counts.records++;
    yield line;
  }
}

async function writeLines(path: string, lines: AsyncIterable<string>): Promise<void> {
  await pipeline(Readable.from(withLineEnds(lines)), newFile(path));
}

async function* withLineEnds(lines: AsyncIterable<string>): AsyncGenerator<string> {
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
