// What an owner has, and whether a submission would bring it beyond what it may have: counted before and after, in the
// transaction that writes it, so that no two calls share the last place.

import { FormationError, type Instance, SUBJECTS, type Usage } from "@formation-mcp/contract";
import { sql } from "kysely";
import type { Submission } from "../port.ts";
import { alone } from "../sql/locks.ts";
import { all, first, type Query, type Script } from "../sql/script.ts";
import { spend } from "./counters.ts";

const RESOURCES = ["vcpus", "memory_mb", "disk_gb"] as const;

const MINUTE = 60_000;

/** How each limit is named to its owner, and the input field that asks for it. */
const LIMITED: Record<keyof Usage, { what: string; field: string | null }> = {
  vcpus: { what: "vCPUs in all instances", field: "vm_config.vcpus" },
  memory_mb: { what: "MB of memory in all instances", field: "vm_config.memory_mb" },
  disk_gb: { what: "GB of disk in all instances", field: "vm_config.disk_gb" },
  instances: { what: "instances", field: null },
  builds: { what: "unfinished builds", field: null },
};

/**
 * Runs `write`, which makes a submission, under the owner's quota. What makes nothing grow is never refused: neither a
 * delete nor a smaller replacement, however far beyond a lowered limit its owner is.
 * @throws FormationError `limit`
 */
export function* within<T>(q: Query, submission: Submission, write: () => Script<T>): Script<T> {
  const { quota, operation } = submission;
  if (!quota) return yield* write();
  const { owner } = operation;
  yield* alone(q, "quota", owner);
  yield* oneMore(q, owner, quota.operations_per_minute);
  const grows = submission.instance || submission.deployment || operation.subject === SUBJECTS.build;
  if (!grows) return yield* write();
  const before = yield* usage(q, owner);
  const written = yield* write();
  const after = yield* usage(q, owner);
  for (const name of Object.keys(LIMITED) as (keyof Usage)[]) {
    const limit = quota[name];
    if (limit === null || after[name] <= limit || after[name] <= before[name]) continue;
    const { what, field } = LIMITED[name];
    const asked = after[name] - before[name];
    throw new FormationError(
      "limit",
      `This goes over the quota of ${limit} ${what}: ${before[name]} in use, ${asked} more asked for.`,
      {
        remedy:
          name === "builds"
            ? "Wait until a build ends, or cancel one; or ask the operator for a larger quota."
            : "Delete an instance that is no longer needed, or ask the operator for a larger quota.",
        ...(field === null ? {} : { field }),
      },
    );
  }
  return written;
}

function* oneMore(q: Query, owner: string, limit: number | null): Script<void> {
  if (limit === null) return;
  const request = { key: `operations of ${owner}`, limit, windowMs: MINUTE, amount: 1 };
  const { granted, resets_at } = yield* spend(q, request);
  if (granted > 0) return;
  const seconds = Math.ceil((resets_at - q.now) / 1000);
  throw new FormationError("limit", `The quota of ${limit} operations a minute is used up.`, {
    remedy: `Try again in ${seconds} seconds, or ask the operator for a larger quota.`,
  });
}

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
