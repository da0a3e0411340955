// The sequences that number rows, after an import wrote rows with their numbers.

import { qualified, type Schemas } from "./dialect.ts";
import type { TransactionPool } from "./pool.ts";

const NUMBER_COLUMNS = {
  operations: "seq",
  builds: "seq",
  deployments: "seq",
  instances: "seq",
  documents: "seq",
  audit: "id",
} as const;

/** Continues every sequence after the highest number of its table, and updates the planner's statistics. */
export async function restartNumbering(pool: TransactionPool, schemas: Schemas): Promise<void> {
  for (const [table, column] of Object.entries(NUMBER_COLUMNS)) {
    const name = qualified(schemas, table);
    await pool.query(
      `SELECT setval(pg_get_serial_sequence('${name}', '${column}'), max("${column}")) FROM ${name}`,
    );
    await pool.query(`ANALYZE ${name}`);
  }
}
