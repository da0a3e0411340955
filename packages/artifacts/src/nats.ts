// Artifacts in NATS, for any number of servers and workers: blobs in a bucket of the object store, logs in a
// stream of their own, and on each node a directory with verified copies of the blobs put or read there.

import { type Clock, FormationError, type Logger, silentLogger, systemClock } from "@formation-mcp/contract";
import type { NatsConnection } from "@formation-mcp/os/nats";
import { BlobCache } from "./directory/blob-cache.ts";
import { checkLogName } from "./directory/log-files.ts";
import { readPage } from "./log-pages.ts";
import { LOG_STREAM, LOG_SUBJECTS, listLogs, logFilter } from "./nats/log-message.ts";
import { createNatsLogSource } from "./nats/log-reader.ts";
import { NatsLogWriter } from "./nats/log-writer.ts";
import { BLOB_SUBJECTS, BUCKET, NatsBlobs } from "./nats/object-store.ts";
import { SharedBlobs } from "./nats/shared-blobs.ts";
import { NatsStream } from "./nats/stream.ts";
import type { Artifacts } from "./port.ts";
import { withFormationErrors } from "./streams.ts";

export interface NatsArtifactsOptions {
  /** The caller's; it stays open when the artifacts are closed. */
  connection: NatsConnection;
  /** A directory only for this process, created with mode 0700 if it is missing. */
  cacheDir: string;
  /** The maximum bytes of the copies. Default 10 GiB. */
  cacheBytes?: number;
  /** How many servers of the cluster keep each byte. Default 1. */
  replicas?: number;
  storage?: "file" | "memory";
  /**
   * Whether this process makes missing streams and removes blobs. If false, its NATS user needs no permission
   * to do so: `collect` removes only this node's copies, and stores blobs again that NATS lost. Default true.
   */
  manage?: boolean;
  /** How long to wait for a server that does not answer, in milliseconds. Default 10,000. */
  patienceMs?: number;
  /** Measures the age of blobs. */
  clock?: Clock;
  logger?: Logger;
}

const DEFAULT_CACHE_BYTES = 10 * 1024 ** 3;
/** A line of the maximum length must fit into one message. */
const MIN_PAYLOAD_BYTES = 256 * 1024;
const CACHE_LABEL = "The artifacts' cache";

/**
 * Opens the artifacts that all processes on the same NATS share.
 * @throws FormationError `unavailable` if NATS does not answer, if it lacks the streams and this process may
 *   not make them, or if the cache cannot be written.
 */
export async function openNatsArtifacts(options: NatsArtifactsOptions): Promise<Artifacts> {
  const { connection, replicas = 1, storage = "file", manage = true, patienceMs = 10_000 } = options;
  const { clock = systemClock, logger = silentLogger } = options;
  const stream = (name: string, subjects: string[]) =>
    new NatsStream({ connection, name, subjects, replicas, storage, manage, patienceMs, logger });
  const bucket = stream(`OBJ_${BUCKET}`, BLOB_SUBJECTS);
  const logs = stream(LOG_STREAM, LOG_SUBJECTS);
  const cache = new BlobCache(options.cacheDir, options.cacheBytes ?? DEFAULT_CACHE_BYTES, clock, logger);
  const blobs = new SharedBlobs(new NatsBlobs(bucket, clock, manage), cache, clock, logger, manage);
  const writer = new NatsLogWriter(logs);
  await Promise.all([bucket.open(), logs.open(), withFormationErrors(() => cache.open(), CACHE_LABEL)]);
  if (logs.maxBytes < MIN_PAYLOAD_BYTES) {
    throw new FormationError("unavailable", "NATS takes too small messages for artifacts.", {
      remedy: "Leave max_payload of nats-server at its default of 1 MB.",
    });
  }
  return {
    shared: true,
    put: (content, put) => withFormationErrors(() => blobs.put(content, put), CACHE_LABEL),
    get: (digest) => withFormationErrors(() => blobs.get(digest), CACHE_LABEL),
    stat: (digest) => withFormationErrors(() => blobs.stat(digest), CACHE_LABEL),
    collect: (roots, olderThanMs) =>
      withFormationErrors(() => blobs.collect(roots, olderThanMs), CACHE_LABEL),
    appendLog: (name, lines) => withFormationErrors(() => writer.append(name, lines)),
    readLog: (name, query) =>
      withFormationErrors(async () => {
        checkLogName(name);
        return readPage(() => createNatsLogSource(logs, name), query);
      }),
    removeLog: (name) =>
      withFormationErrors(async () => {
        checkLogName(name);
        await logs.purge(logFilter(name));
      }),
    logNames: () => withFormationErrors(() => listLogs(logs)),
    async close() {
      await Promise.all([writer.idle(), blobs.idle()]);
    },
  };
}
