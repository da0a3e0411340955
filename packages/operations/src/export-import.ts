// Exports a whole store as lines of JSON, and imports it: every row of every table, between a header with the
// version and a footer with the numbers of rows, so that a truncated file is never taken for a whole one.

import { FormationError } from "@formation-mcp/contract";
import { sql } from "kysely";
import { SCHEMA_VERSION } from "./migrations/migrate.ts";
import type { Store } from "./port.ts";
import type { Tables } from "./sql/schema.ts";
import { all, first, ONE, run, type Transaction, type TransactionScript } from "./sql/script.ts";
import { runnerOf, type ScriptRunner } from "./store.ts";

/**
 * Each table with the columns that order its rows for reading, and the columns that the database generates.
 */
const TABLES = {
  operations: { orderBy: ["seq"], generated: [] },
  builds: { orderBy: ["seq"], generated: [] },
  deployments: { orderBy: ["seq"], generated: [] },
  instances: { orderBy: ["seq"], generated: ["vcpus", "memory_mb", "disk_gb"] },
  instance_metadata: { orderBy: ["instance_seq", "key"], generated: [] },
  nodes: { orderBy: ["id"], generated: [] },
  idempotency: { orderBy: ["owner", "tool", "key"], generated: [] },
  documents: { orderBy: ["seq"], generated: [] },
  counters: { orderBy: ["key"], generated: [] },
  audit: { orderBy: ["id"], generated: [] },
  audit_seals: { orderBy: ["chain", "seq"], generated: [] },
} as const satisfies Record<
  Exclude<keyof Tables, "meta" | "document_artifacts">,
  { orderBy: readonly string[]; generated: readonly string[] }
>;

type Table = keyof typeof TABLES;
type Row = Record<string, string | number | null>;
const TABLE_NAMES = Object.keys(TABLES) as Table[];

const FORMAT = "formation-store 1";
/** The key in `meta` that exists while an import runs. */
const IMPORT_KEY = "import";
/** Rows per query. With all their columns they stay below the databases' limits of parameters. */
const BATCH_ROWS = 500;

/**
 * Reads everything in a store, as lines without their line ends. Nothing may write at the same time: stop
 * servers and workers.
 * @throws FormationError `conflict` at the end if something was written; the lines read before are invalid
 *   then.
 */
export async function* exportStore(store: Store): AsyncGenerator<string, void, undefined> {
  const runner = runnerOf(store);
  const before = await runner.exactRevision();
  yield JSON.stringify({ format: FORMAT, schema: SCHEMA_VERSION });
  const rows: Partial<Record<Table, number>> = {};
  for (const table of TABLE_NAMES) {
    rows[table] = 0;
    for (let after: Row | undefined, more = true; more; ) {
      const batch = await runner.read((tx) => rowsAfter(tx, table, after));
      for (const row of batch) yield JSON.stringify([table, row]);
      rows[table] += batch.length;
      after = batch.at(-1);
      more = batch.length === BATCH_ROWS;
    }
  }
  if ((await runner.exactRevision()) !== before) {
    throw new FormationError("conflict", "Somebody wrote to the store while it was read.", {
      remedy: "Stop all servers and workers, then export again.",
    });
  }
  yield JSON.stringify({ end: rows });
}

/**
 * Writes the lines of {@link exportStore} into an empty store. A failed import removes what it wrote. After a
 * killed one {@link isHalfImported} is true, until the next import removes its rows and begins again.
 * @param first runs before the rows are written, once it is certain that the store may be imported into.
 * @returns the number of rows in all.
 * @throws FormationError `conflict` if the store is not empty, `invalid` if the lines are not a complete
 *   export of this version.
 */
export async function importStore(
  store: Store,
  lines: AsyncIterable<string>,
  first: () => Promise<void> = async () => {},
): Promise<number> {
  const runner = runnerOf(store);
  await runner.write(begin);
  try {
    await first();
    const written = await writeAll(runner, lines);
    await runner.restartNumbering?.();
    await runner.write(finish);
    return written;
  } catch (error) {
    await runner.write(clear);
    throw error;
  }
}

/** Whether an import into this store was killed, so that its records are incomplete. */
export async function isHalfImported(store: Store): Promise<boolean> {
  return await runnerOf(store).read(isBegun);
}

async function writeAll(runner: ScriptRunner, lines: AsyncIterable<string>): Promise<number> {
  const rows = Object.fromEntries(TABLE_NAMES.map((table) => [table, 0])) as Record<Table, number>;
  let batch: { table: Table; rows: Row[] } | undefined;
  const flush = async () => {
    const full = batch;
    batch = undefined;
    if (full) await runner.write((tx) => insert(tx, full.table, full.rows));
  };
  let hasHeader = false;
  let ended: unknown;
  for await (const line of lines) {
    const parsed = parse(line);
    if (!hasHeader) {
      checkHeader(parsed);
      hasHeader = true;
    } else if (ended !== undefined) {
      throw notAnExport("It goes on after its end.");
    } else if (!Array.isArray(parsed)) {
      ended = (parsed as { end?: unknown }).end ?? null;
    } else {
      const [table, row] = parsed as [Table, Row];
      if (!Object.hasOwn(TABLES, table)) throw notAnExport("It has a table that is not known here.");
      if (batch?.table !== table || batch.rows.length === BATCH_ROWS) await flush();
      batch ??= { table, rows: [] };
      batch.rows.push(row);
      rows[table]++;
    }
  }
  await flush();
  if (JSON.stringify(ended) !== JSON.stringify(rows))
    throw notAnExport("It is not whole: its end is missing.");
  return Object.values(rows).reduce((sum, each) => sum + each, 0);
}

function parse(line: string): unknown {
  try {
    return JSON.parse(line);
  } catch {
    throw notAnExport("A line of it is no JSON.");
  }
}

function checkHeader(parsed: unknown): void {
  const { format, schema } = (parsed ?? {}) as { format?: unknown; schema?: unknown };
  if (format !== FORMAT) throw notAnExport("Its first line is another.");
  if (schema === SCHEMA_VERSION) return;
  throw new FormationError("invalid", "The export is of another version of the database.", {
    remedy: "Export with the same version of formation-mcp that imports.",
  });
}

function notAnExport(why: string): FormationError {
  return new FormationError("invalid", `This is no export of a store. ${why}`, {
    remedy: "Export the store once more, and give the whole of it.",
  });
}

function* rowsAfter(tx: Transaction, table: Table, after: Row | undefined): TransactionScript<Row[]> {
  const { orderBy, generated } = TABLES[table];
  const names = sql.join(orderBy.map((column) => sql.ref(column)));
  const afterPlace =
    after && sql<boolean>`(${names}) > (${sql.join(orderBy.map((column) => after[column] ?? null))})`;
  let select = tx.db.selectFrom(table as "operations").selectAll();
  if (afterPlace) select = select.where(afterPlace);
  for (const column of orderBy) select = select.orderBy(column as "seq");
  const rows = (yield* all(select.limit(sql.lit(BATCH_ROWS)))) as unknown as Row[];
  return rows.map((row) =>
    Object.fromEntries(
      Object.entries(row).filter(([column]) => !(generated as readonly string[]).includes(column)),
    ),
  );
}

function* insert(tx: Transaction, table: Table, rows: readonly Row[]): TransactionScript<void> {
  yield* run(tx.db.insertInto(table).values(rows as never));
}

function* refuseUnlessEmpty(tx: Transaction): TransactionScript<void> {
  for (const table of TABLE_NAMES) {
    const row = yield* first(tx.db.selectFrom(table).select(sql<number>`1`.as("one")).limit(ONE));
    if (row) {
      throw new FormationError("conflict", `The store to import into is not empty: it has ${table}.`, {
        remedy: "Import into a new database, before any server or worker uses it.",
      });
    }
  }
}

/**
 * Marks the import in the database. A mark that exists is of an import that was killed: its rows are removed.
 */
function* begin(tx: Transaction): TransactionScript<void> {
  if (yield* isBegun(tx)) yield* clear(tx);
  else yield* refuseUnlessEmpty(tx);
  yield* run(tx.db.insertInto("meta").values({ key: IMPORT_KEY, value: "begun" }));
}

function* isBegun(tx: Transaction): TransactionScript<boolean> {
  return (yield* first(tx.db.selectFrom("meta").select("value").where("key", "=", IMPORT_KEY))) !== undefined;
}

function* finish(tx: Transaction): TransactionScript<void> {
  yield* run(tx.db.deleteFrom("meta").where("key", "=", IMPORT_KEY));
}

function* clear(tx: Transaction): TransactionScript<void> {
  for (const table of TABLE_NAMES) yield* run(tx.db.deleteFrom(table));
  yield* finish(tx);
}
