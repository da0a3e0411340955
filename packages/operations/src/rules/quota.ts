// Quotas: what an owner has, counted before and after a submission, in the transaction that writes it. The
// lock on the owner prevents two calls from taking the same last place.

import { FormationError, type Instance, SUBJECTS, type Usage } from "@formation-mcp/contract";
import { sql } from "kysely";
import type { Submission } from "../port.ts";
import { all, first, lockName, type Transaction, type TransactionScript } from "../sql/script.ts";
import { spend } from "./counters.ts";

const RESOURCES = ["vcpus", "memory_mb", "disk_gb"] as const;

const MINUTE_MS = 60_000;

/** How an error names each limit, and the input field that it refers to. */
const QUOTA_TEXTS: Record<keyof Usage, { what: string; field: string | null }> = {
  vcpus: { what: "vCPUs in all instances", field: "vm_config.vcpus" },
  memory_mb: { what: "MB of memory in all instances", field: "vm_config.memory_mb" },
  disk_gb: { what: "GB of disk in all instances", field: "vm_config.disk_gb" },
  instances: { what: "instances", field: null },
  builds: { what: "unfinished builds", field: null },
};

/**
 * Runs `write`, which writes a submission, under the owner's quota. A submission that makes nothing grow is
 * never refused: a delete or a smaller replacement passes even if the owner is beyond a limit that was
 * lowered.
 * @throws FormationError `limit`
 */
export function* withinQuota<T>(
  tx: Transaction,
  submission: Submission,
  write: () => TransactionScript<T>,
): TransactionScript<T> {
  const { quota, operation } = submission;
  if (!quota) return yield* write();
  const { owner } = operation;
  yield* lockName(tx, "quota", owner);
  yield* countOperation(tx, owner, quota.operations_per_minute);
  const grows = submission.instance || submission.deployment || operation.subject === SUBJECTS.build;
  if (!grows) return yield* write();
  const before = yield* usage(tx, owner);
  const written = yield* write();
  const after = yield* usage(tx, owner);
  for (const name of Object.keys(QUOTA_TEXTS) as (keyof Usage)[]) {
    const limit = quota[name];
    if (limit === null || after[name] <= limit || after[name] <= before[name]) continue;
    const { what, field } = QUOTA_TEXTS[name];
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

/** Counts one operation against the limit per minute. @throws FormationError `limit` */
function* countOperation(tx: Transaction, owner: string, limit: number | null): TransactionScript<void> {
  if (limit === null) return;
  const request = { key: `operations of ${owner}`, limit, windowMs: MINUTE_MS, amount: 1 };
  const { granted, resets_at } = yield* spend(tx, request);
  if (granted > 0) return;
  const seconds = Math.ceil((resets_at - tx.now) / 1000);
  throw new FormationError("limit", `The quota of ${limit} operations a minute is used up.`, {
    remedy: `Try again in ${seconds} seconds, or ask the operator for a larger quota.`,
  });
}

/**
 * What an owner has. An instance that is being replaced counts with the larger of its present and its future
 * size, because the replacement may fail or succeed.
 */
export function* usage(tx: Transaction, owner: string): TransactionScript<Usage> {
  const total = yield* instances(tx, owner);
  for (const more of yield* growth(tx, owner)) {
    for (const what of RESOURCES) total[what] += more[what];
  }
  return { ...total, builds: yield* builds(tx, owner) };
}

function* instances(tx: Transaction, owner: string): TransactionScript<Omit<Usage, "builds">> {
  const sum = yield* first(
    tx.cached("usage.instances", { owner }, (db, p) =>
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

/**
 * By how much instances are to grow: for each, the largest growth that any of its unfinished deployments asks
 * for.
 */
function* growth(tx: Transaction, owner: string): TransactionScript<Iterable<Resources>> {
  const rows = yield* all(
    tx.cached("usage.replacing", { owner }, (db, p) =>
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
  const largest = new Map<string, Resources>();
  for (const { id, config, ...now } of rows) {
    const { resources } = JSON.parse(config) as Instance["config"];
    const sofar = largest.get(id) ?? { vcpus: 0, memory_mb: 0, disk_gb: 0 };
    for (const what of RESOURCES) sofar[what] = Math.max(sofar[what], resources[what] - now[what]);
    largest.set(id, sofar);
  }
  return largest.values();
}

function* builds(tx: Transaction, owner: string): TransactionScript<number> {
  const found = yield* first(
    tx.cached("usage.builds", { owner, subject: SUBJECTS.build }, (db, p) =>
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
