// A whole store as lines of text, and back: every row of every table as JSON, between a head that says what wrote it and an
// end that says how many there are, so that half a file is never taken for a whole one.

import { FormationError } from "@formation-mcp/contract";
import { sql } from "kysely";
import { SCHEMA_VERSION } from "./migrations/migrate.ts";
import type { Store } from "./port.ts";
import type { Tables } from "./sql/schema.ts";
import { all, count, first, ONE, type Query, type Script } from "./sql/script.ts";
import { type Runner, runnerOf } from "./store.ts";

/** Each table with the columns that number its rows, by which it is read, and those that the database makes itself. */
const TABLES = {
  operations: { by: ["seq"], made: [] },
  builds: { by: ["seq"], made: [] },
  deployments: { by: ["seq"], made: [] },
  instances: { by: ["seq"], made: ["vcpus", "memory_mb", "disk_gb"] },
  instance_metadata: { by: ["instance_seq", "key"], made: [] },
  nodes: { by: ["id"], made: [] },
  idempotency: { by: ["owner", "tool", "key"], made: [] },
  documents: { by: ["seq"], made: [] },
  counters: { by: ["key"], made: [] },
  audit: { by: ["id"], made: [] },
  audit_seals: { by: ["chain", "seq"], made: [] },
} as const satisfies Record<
  Exclude<keyof Tables, "meta" | "document_artifacts">,
  { by: readonly string[]; made: readonly string[] }
>;

type Table = keyof typeof TABLES;
type Row = Record<string, string | number | null>;
const NAMES = Object.keys(TABLES) as Table[];

const FORMAT = "formation-store 1";
/** The key in `meta` that is there while an import runs. */
const IMPORTS = "import";
/** Rows that are read or written at once: with all their columns fewer parameters than any database refuses. */
const BATCH = 500;

/**
 * Reads all that a store holds, line by line, without its end of line. Nobody may write meanwhile: stop servers and workers.
 * @throws FormationError `conflict` at the end if somebody did; what was read before is worth nothing then.
 */
export async function* exportStore(store: Store): AsyncGenerator<string, void, undefined> {
  const runner = runnerOf(store);
  const before = await runner.written();
  yield JSON.stringify({ format: FORMAT, schema: SCHEMA_VERSION });
  const rows: Partial<Record<Table, number>> = {};
  for (const table of NAMES) {
    rows[table] = 0;
    for (let after: Row | undefined, more = true; more; ) {
      const batch = await runner.read((q) => rowsAfter(q, table, after));
      for (const row of batch) yield JSON.stringify([table, row]);
      rows[table] += batch.length;
      after = batch.at(-1);
      more = batch.length === BATCH;
    }
  }
  if ((await runner.written()) !== before) {
    throw new FormationError("conflict", "Somebody wrote to the store while it was read.", {
      remedy: "Stop all servers and workers, then export again.",
    });
  }
  yield JSON.stringify({ end: rows });
}

/**
 * Writes what {@link exportStore} read into an empty store. If that fails nothing is left of it; if this process is killed, the
 * next import removes what there is and begins anew, and until then {@link isHalfImported}.
 * @param first what is to be done before, once it is sure that the store may be imported into.
 * @returns how many rows there are in all.
 * @throws FormationError `conflict` if the store is not empty, `invalid` if the lines are not a whole export of this version.
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
    await runner.numberOn?.();
    await runner.write(finish);
    return written;
  } catch (error) {
    await runner.write(clear);
    throw error;
  }
}

/** Whether an import into this store was killed: what is in it is not whole. */
export async function isHalfImported(store: Store): Promise<boolean> {
  return await runnerOf(store).read(isBegun);
}

async function writeAll(runner: Runner, lines: AsyncIterable<string>): Promise<number> {
  const rows = Object.fromEntries(NAMES.map((table) => [table, 0])) as Record<Table, number>;
  let waiting: Row[] = [];
  let of: Table | undefined;
  const flush = async () => {
    const [table, batch] = [of, waiting];
    waiting = [];
    if (table && batch.length > 0) await runner.write((q) => insert(q, table, batch));
  };
  let begun = false;
  let ended: unknown;
  for await (const line of lines) {
    const parsed = parse(line);
    if (!begun) {
      head(parsed);
      begun = true;
    } else if (ended !== undefined) {
      throw broken("It goes on after its end.");
    } else if (!Array.isArray(parsed)) {
      ended = (parsed as { end?: unknown }).end ?? null;
    } else {
      const [table, row] = parsed as [Table, Row];
      if (!Object.hasOwn(TABLES, table)) throw broken("It has a table that is not known here.");
      if (table !== of || waiting.length === BATCH) await flush();
      of = table;
      waiting.push(row);
      rows[table]++;
    }
  }
  await flush();
  if (JSON.stringify(ended) !== JSON.stringify(rows)) throw broken("It is not whole: its end is missing.");
  return Object.values(rows).reduce((sum, each) => sum + each, 0);
}

function parse(line: string): unknown {
  try {
    return JSON.parse(line);
  } catch {
    throw broken("A line of it is no JSON.");
  }
}

function head(parsed: unknown): void {
  const { format, schema } = (parsed ?? {}) as { format?: unknown; schema?: unknown };
  if (format !== FORMAT) throw broken("Its first line is another.");
  if (schema === SCHEMA_VERSION) return;
  throw new FormationError("invalid", "The export is of another version of the database.", {
    remedy: "Export with the same version of formation-mcp that imports.",
  });
}

function broken(why: string): FormationError {
  return new FormationError("invalid", `This is no export of a store. ${why}`, {
    remedy: "Export the store once more, and give the whole of it.",
  });
}

function* rowsAfter(q: Query, table: Table, after: Row | undefined): Script<Row[]> {
  const { by, made } = TABLES[table];
  const names = sql.join(by.map((column) => sql.ref(column)));
  const place = after && sql<boolean>`(${names}) > (${sql.join(by.map((column) => after[column] ?? null))})`;
  let select = q.db.selectFrom(table as "operations").selectAll();
  if (place) select = select.where(place);
  for (const column of by) select = select.orderBy(column as "seq");
  const rows = (yield* all(select.limit(sql.lit(BATCH)))) as unknown as Row[];
  return rows.map((row) =>
    Object.fromEntries(
      Object.entries(row).filter(([column]) => !(made as readonly string[]).includes(column)),
    ),
  );
}

function* insert(q: Query, table: Table, rows: readonly Row[]): Script<void> {
  yield* count(q.db.insertInto(table).values(rows as never));
}

function* refuseUnlessEmpty(q: Query): Script<void> {
  for (const table of NAMES) {
    const row = yield* first(q.db.selectFrom(table).select(sql<number>`1`.as("one")).limit(ONE));
    if (row) {
      throw new FormationError("conflict", `The store to import into is not empty: it has ${table}.`, {
        remedy: "Import into a new database, before any server or worker uses it.",
      });
    }
  }
}

/** Says in the database that an import runs. Who finds that already finds what a killed one left. */
function* begin(q: Query): Script<void> {
  if (yield* isBegun(q)) yield* clear(q);
  else yield* refuseUnlessEmpty(q);
  yield* count(q.db.insertInto("meta").values({ key: IMPORTS, value: "begun" }));
}

function* isBegun(q: Query): Script<boolean> {
  return (yield* first(q.db.selectFrom("meta").select("value").where("key", "=", IMPORTS))) !== undefined;
}

function* finish(q: Query): Script<void> {
  yield* count(q.db.deleteFrom("meta").where("key", "=", IMPORTS));
}

function* clear(q: Query): Script<void> {
  for (const table of NAMES) yield* count(q.db.deleteFrom(table));
  yield* finish(q);
}
