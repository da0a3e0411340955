// What happens to the instances of a node that sends no heartbeat.

import { type ErrorRecord, type Id, type Instance, LOSABLE_STATES } from "@formation-mcp/contract";
import { sql } from "kysely";
import { toInstance } from "../sql/rows.ts";
import type { InstanceRow } from "../sql/schema.ts";
import { all, type Transaction, type TransactionScript } from "../sql/script.ts";
import { instanceRow, patchInstance } from "./records.ts";

/** Marks instances as `lost` as `Store.markLost` describes. */
export function* markLost(tx: Transaction, silentMs: number): TransactionScript<Instance[]> {
  const silent = yield* all(
    tx.cached("nodes.silent", { before: tx.now - silentMs }, (db, p) =>
      db
        .selectFrom("nodes")
        .select(["id", "heartbeat_at"])
        .where("removed_at", "is", null)
        .where("heartbeat_at", "<=", p.before),
    ),
  );
  const lost: Instance[] = [];
  for (const node of silent) {
    for (const row of yield* losableInstances(tx, node.id)) {
      yield* patchInstance(tx, row, { state: "lost", error: nodeSilent(node.heartbeat_at) });
      lost.push(toInstance(yield* instanceRow(tx, null, row.id)));
    }
  }
  return lost;
}

/** The instances on a node that only the node can report about, without those that an operation works on. */
function* losableInstances(tx: Transaction, node: Id<"node">): TransactionScript<InstanceRow[]> {
  return yield* all(
    tx.cached("nodes.tellable", { node }, (db, p) =>
      tx.locks.skipLocked(
        db
          .selectFrom("instances as i")
          .selectAll("i")
          .where("i.node_id", "=", p.node)
          .where("i.machine_id", "is not", null)
          .where(
            "i.state",
            "in",
            LOSABLE_STATES.map((state) => sql.lit(state)),
          )
          .where(({ not, exists, selectFrom }) =>
            not(
              exists(
                selectFrom("operations as o")
                  .select("o.seq")
                  .whereRef("o.serial_key", "=", "i.id")
                  .where("o.ended_at", "is", null)
                  .where("o.state", "=", sql.lit("running" as const)),
              ),
            ),
          ),
        "i",
      ),
    ),
  );
}

/** @param since the last heartbeat, in milliseconds since the epoch. */
function nodeSilent(since: number): ErrorRecord {
  return {
    code: "unavailable",
    message: `Its node has not been heard of since ${new Date(since).toISOString()}.`,
    remedy:
      "It comes back by itself when its node does. If that never will, an admin removes the node with force: then ship its build to this name with replace: true. Or delete it.",
    step: "run",
  };
}
