// A store of any size in seconds: the store makes its own schema, then SQL fills it with realistic rows.

import { DatabaseSync } from "node:sqlite";

/** The time at which the filled store is measured; its clock is fixed there. */
export const NOW = 1_790_000_000_000;
const DAY = 86_400_000;
/**
 * The retention settings of the store: they keep everything that {@link fill} makes except the expired
 * operations.
 */
export const KEPT_MS = 30 * DAY;
export const OWNERS = 20;

/** One operation in this many is queued or running. */
const ALIVE_EVERY = 1000;

/** The formfile of every build. */
export const FORMFILE = {
  from: "busybox",
  name: "web",
  run: ["echo built > www/built.txt"],
  include: ["www"],
  env: { GREETING: "hello" },
  expose: [8080],
  entrypoint: ["/bin/httpd", "-f", "-p", "8080", "-h", "/app/www"],
  resources: { vcpus: 1, memory_mb: 256, disk_gb: 1 },
  network: { join_formnet: false, external_networks: [] },
  metadata: {},
};
const TEXT = {
  error: JSON.stringify({
    code: "invalid",
    message: "The step run 1/2 failed with exit code 1.",
    step: "run 1/2",
    exit_code: 1,
    remedy: "Read the last lines of its log, correct the run line, and build again.",
    log_tail: ["cc: error: no such file", "make: *** [all] Error 1"],
  }),
  progress: JSON.stringify({ step: "commit", message: "Keeping the image", fraction: 0.97, at: NOW - DAY }),
  formfile: JSON.stringify(FORMFILE),
};

/** Opens a file as the store does, so that both sides work under the same conditions. */
export function openRaw(path: string): DatabaseSync {
  const db = new DatabaseSync(path, { timeout: 5000 });
  db.exec("PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA foreign_keys = ON;");
  db.exec("PRAGMA journal_size_limit = 67108864; PRAGMA temp_store = MEMORY;");
  return db;
}

/**
 * Fills a store that has its schema already with `size` operations and a build for one in ten of them; the
 * oldest `expired` of the operations are to be removed by a sweep.
 */
export function fill(path: string, size: number, expired: number): void {
  const db = openRaw(path);
  db.exec("PRAGMA synchronous = OFF; PRAGMA cache_size = -400000; BEGIN");
  addOperations(db, 1, size, { size, expired });
  db.prepare(
    `INSERT INTO builds (seq, id, version, created_at, updated_at, owner, name, state, formfile, warnings, metadata, used_at,
       operation_id, started_at, ended_at)
     WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < :builds)
     SELECT i, ${id("bld", "i")}, 4, :now - :day, :now - :day, 'owner-' || (i % ${OWNERS}), 'web-' || (i % 50), 'ready',
       :formfile, '[]', '{}', :now - :day, ${id("op", "i * 10")}, :now - :day, :now - :day FROM n`,
  ).run({ ...integers({ builds: Math.floor(size / 10), now: NOW, day: DAY }), formfile: TEXT.formfile });
  db.exec("COMMIT; PRAGMA wal_checkpoint(TRUNCATE)");
  db.close();
}

/** Restores the operations `from` to `to`, by their position in the order of writing. */
export function addOperations(
  db: DatabaseSync,
  from: number,
  to: number,
  { size, expired }: { size: number; expired: number },
): void {
  db.prepare(
    `INSERT INTO operations (seq, id, version, created_at, updated_at, owner, tool, state, subject, input, target_id,
       serial_key, node_id, vcpus, memory_mb, disk_gb, attempt, send, sent_at, claimed_by, lease_until, deadline_at, run_at,
       progress, error, started_at, ended_at, expires_at)
     WITH RECURSIVE n(i) AS (SELECT :first UNION ALL SELECT i + 1 FROM n WHERE i < :last),
     a AS MATERIALIZED (SELECT i,
       CASE WHEN i > :expired AND i % ${ALIVE_EVERY} = 7 THEN 'queued' WHEN i > :expired AND i % ${ALIVE_EVERY} = 8 THEN 'running'
         WHEN i % 20 = 3 THEN 'failed' WHEN i % 50 = 4 THEN 'cancelled' ELSE 'completed' END AS state,
       CASE WHEN i <= :expired THEN :now - :kept - :day + i ELSE :now - :kept + CAST(i * 1.0 / :size * :kept AS INTEGER) END AS at,
       ${id("bld", "i")} AS target FROM n)
     SELECT i, ${id("op", "i")}, 5, at, at, 'owner-' || (i % ${OWNERS}), 'pack_build', state, 'pack.build',
       '{"kind":"build","build_id":"' || target || '","no_cache":false}', target, target, NULL, 1, 2048, 1,
       state <> 'queued', 1, :now, NULL, CASE state WHEN 'running' THEN :now + :day END, :now + :day, at,
       :progress, CASE state WHEN 'failed' THEN :error END, at,
       CASE WHEN state IN ('queued', 'running') THEN NULL ELSE at END,
       CASE WHEN state IN ('queued', 'running') THEN NULL ELSE at + :kept END FROM a`,
  ).run({
    ...integers({ first: from, last: to, size, expired, now: NOW, kept: KEPT_MS, day: DAY }),
    progress: TEXT.progress,
    error: TEXT.error,
  });
}

/** SQLite gets a JavaScript number as a float, whose text ends in `.0`. */
function integers(numbers: Record<string, number>): Record<string, bigint> {
  return Object.fromEntries(Object.entries(numbers).map(([name, value]) => [name, BigInt(value)]));
}

/** An id that sorts as real ids do: by time, then at random. */
function id(kind: string, order: string): string {
  return `'${kind}_' || printf('%010d', ${order}) || lower(hex(randomblob(13)))`;
}
