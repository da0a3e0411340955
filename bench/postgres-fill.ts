// A PostgreSQL store of any size in a minute: the store makes its own schemas, then SQL fills them with
// realistic rows.

import type { Client } from "pg";
import { KEPT_MS, NOW, OWNERS } from "./store-fill.ts";

/** One operation in this many is queued, and one is running. */
const ALIVE_EVERY = 100;
const DAY = 86_400_000;

/** Fills a schema with `size` operations and a build for one in ten of them. */
export async function fillPostgres(client: Client, schema: string, size: number): Promise<void> {
  const ended = "state NOT IN ('queued', 'running')";
  await client.query(
    `INSERT INTO ${schema}.operations (id, version, created_at, updated_at, owner, tool, state, subject, input, target_id,
       serial_key, vcpus, memory_mb, disk_gb, attempt, send, sent_at, claimed_by, lease_until, deadline_at, run_at, progress,
       started_at, ended_at, expires_at)
     SELECT ${id("op", "i")}, 5, at, at, 'owner-' || i % ${OWNERS}, 'pack_build', state, 'pack.build',
       '{"kind":"build","build_id":"' || target || '","no_cache":false}', target, target, 1, 2048, 1,
       (state <> 'queued')::int, 1, $2, CASE state WHEN 'running' THEN 'node_other' END,
       CASE state WHEN 'running' THEN $2 + ${DAY} END, $2 + ${DAY}, at,
       '{"step":"commit","message":"Keeping the image","fraction":0.97,"at":1}', at,
       CASE WHEN ${ended} THEN at END, CASE WHEN ${ended} THEN at + ${KEPT_MS} END
     FROM (SELECT i, ${id("bld", "i")} AS target, $2::bigint - ${KEPT_MS} + i * ${KEPT_MS} / $1::bigint AS at,
       CASE WHEN i % ${ALIVE_EVERY} = 7 THEN 'queued' WHEN i % ${ALIVE_EVERY} = 8 THEN 'running'
         WHEN i % 20 = 3 THEN 'failed' ELSE 'completed' END AS state
       FROM generate_series(1, $1::bigint) AS i) AS each ORDER BY i`,
    [size, NOW],
  );
  await client.query(
    `INSERT INTO ${schema}.builds (id, version, created_at, updated_at, owner, name, state, formfile, warnings, metadata,
       used_at, operation_id, started_at, ended_at)
     SELECT ${id("bld", "i")}, 4, at, at, 'owner-' || i % ${OWNERS}, 'web-' || i % 50, 'ready',
       '{"from":"busybox","name":"web","run":["echo built > www/built.txt"],"include":["www"],"env":{},"expose":[8080]}',
       '[]', '{}', at, ${id("op", "i * 10")}, at, at
     FROM (SELECT i, $2::bigint - ${DAY} AS at FROM generate_series(1, $1::bigint / 10) AS i) AS each ORDER BY i`,
    [size, NOW],
  );
  await client.query(`VACUUM ANALYZE ${schema}.operations, ${schema}.builds`);
}

/** An id that sorts as real ids do: by time, then at random. */
function id(kind: string, order: string): string {
  return `'${kind}_' || to_char(${order}, 'FM0000000000') || md5(random()::text)`;
}
