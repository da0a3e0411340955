// What an owner has, as quotas count it.

import { type Instance, SUBJECTS, type Usage } from "@formation-mcp/contract";
import { sql } from "kysely";
import { all, first, type Query, type Script } from "./script.ts";

const RESOURCES = ["vcpus", "memory_mb", "disk_gb"] as const;

/**
 * What an owner has. An instance that is about to be replaced counts with the larger of what it is and what it is to be:
 * whichever way that ends, it was counted.
 */
export function* usage(q: Query, owner: string): Script<Usage> {
  const total = yield* instances(q, owner);
  for (const growth of yield* replacing(q, owner)) {
    for (const what of RESOURCES) total[what] += growth[what];
  }
  return { ...total, builds: yield* builds(q, owner) };
}

function* instances(q: Query, owner: string): Script<Omit<Usage, "builds">> {
  const sum = yield* first(
    q.cached("usage.instances", { owner }, (db, p) =>
      db
        .selectFrom("instances")
        .select((eb) => [
          eb.fn.countAll<number>().as("instances"),
          ...RESOURCES.map((what) => eb.fn.sum<number | null>(what).as(what)),
        ])
        .where("owner", "=", p.owner)
        .where("state", "<>", sql.lit("deleted" as const)),
    ),
  );
  return {
    vcpus: sum?.vcpus ?? 0,
    memory_mb: sum?.memory_mb ?? 0,
    disk_gb: sum?.disk_gb ?? 0,
    instances: sum?.instances ?? 0,
  };
}

type Resources = Instance["config"]["resources"];

/** By how much instances are to grow: for each, the most that any unfinished deployment asks for beyond what it is. */
function* replacing(q: Query, owner: string): Script<Iterable<Resources>> {
  const rows = yield* all(
    q.cached("usage.replacing", { owner }, (db, p) =>
      db
        .selectFrom("deployments as d")
        .innerJoin("instances as i", "i.id", "d.instance_id")
        .select(["i.id", "i.vcpus", "i.memory_mb", "i.disk_gb", "d.config"])
        .where("d.owner", "=", p.owner)
        .where("d.replace", "=", sql.lit(1))
        .where("d.state", "in", [sql.lit("queued" as const), sql.lit("deploying" as const)])
        .where("i.state", "<>", sql.lit("deleted" as const)),
    ),
  );
  const growth = new Map<string, Resources>();
  for (const { id, config, ...now } of rows) {
    const { resources } = JSON.parse(config) as Instance["config"];
    const sofar = growth.get(id) ?? { vcpus: 0, memory_mb: 0, disk_gb: 0 };
    for (const what of RESOURCES) sofar[what] = Math.max(sofar[what], resources[what] - now[what]);
    growth.set(id, sofar);
  }
  return growth.values();
}

function* builds(q: Query, owner: string): Script<number> {
  const found = yield* first(
    q.cached("usage.builds", { owner, subject: SUBJECTS.build }, (db, p) =>
      db
        .selectFrom("operations")
        .select((eb) => eb.fn.countAll<number>().as("count"))
        .where("owner", "=", p.owner)
        .where("state", "in", [sql.lit("queued" as const), sql.lit("running" as const)])
        .where("subject", "=", p.subject),
    ),
  );
  return found?.count ?? 0;
}
