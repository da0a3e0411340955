// How the store's SQL is spelt for PostgreSQL: types and generated columns, in which of two schemas a table is, and what
// locks are called. The queries and the migrations are those of SQLite.

import {
  type ColumnDefinitionNode,
  CompiledQuery,
  type DataTypeNode,
  DummyDriver,
  type GeneratedNode as Generated,
  GeneratedNode,
  Kysely,
  PostgresAdapter,
  PostgresIntrospector,
  PostgresQueryCompiler,
  type TableNode,
} from "kysely";
import type { Locks } from "../sql/locks.ts";
import { NO_LOCKS } from "../sql/locks.ts";
import type { Tables } from "../sql/schema.ts";

/** Where a table is: with the records, or with what only servers see. */
const PLACES: Record<keyof Tables, "records" | "private"> = {
  operations: "records",
  builds: "records",
  deployments: "records",
  instances: "records",
  instance_metadata: "records",
  nodes: "records",
  idempotency: "records",
  document_artifacts: "records",
  meta: "records",
  documents: "private",
  counters: "private",
  audit: "private",
  audit_seals: "private",
};

/** The two schemas of a store. */
export interface Schemas {
  records: string;
  private: string;
}

/** The name of a table with its schema, quoted. */
export function placed(schemas: Schemas, table: string): string {
  const place = PLACES[table as keyof Tables];
  return place ? `"${schemas[place]}"."${table}"` : `"${table}"`;
}

class Compiler extends PostgresQueryCompiler {
  readonly #schemas: Schemas;

  constructor(schemas: Schemas) {
    super();
    this.#schemas = schemas;
  }

  /** An alias is no table of ours and stays as it is. */
  protected override visitTable(node: TableNode): void {
    this.append(placed(this.#schemas, node.table.identifier.name));
  }

  /** SQLite's integers have 64 bits, and its texts are compared byte by byte. */
  protected override visitDataType(node: DataTypeNode): void {
    if (node.dataType === "integer") this.append("bigint");
    else if (node.dataType === "text") this.append('text collate "C"');
    else super.visitDataType(node);
  }

  /** SQLite numbers the rows of a table whose key is an integer by itself. */
  protected override visitColumnDefinition(node: ColumnDefinitionNode): void {
    const { dataType } = node as { dataType: { kind: string; dataType?: string } };
    const numbered = node.primaryKey && dataType.dataType === "integer";
    const generated = { kind: "GeneratedNode", identity: true, byDefault: true } as const;
    super.visitColumnDefinition(numbered ? { ...node, generated } : node);
  }

  protected override visitGenerated(node: Generated): void {
    super.visitGenerated(node.expression ? GeneratedNode.cloneWith(node, { stored: true }) : node);
  }
}

/** Kysely as a maker of SQL alone. */
export function compiler(schemas: Schemas): Kysely<Tables> {
  return new Kysely<Tables>({
    dialect: {
      createAdapter: () => new PostgresAdapter(),
      createDriver: () => new DummyDriver(),
      createIntrospector: (db) => new PostgresIntrospector(db),
      createQueryCompiler: () => new Compiler(schemas),
    },
  });
}

/** Each lock lasts until the end of its transaction. */
export function locks(schemas: Schemas): Locks {
  return {
    shared: true,
    wait: (select) => select.forUpdate(),
    skipLocked: (select, of) => (of ? select.forUpdate(of) : select.forUpdate()).skipLocked(),
    name: (name) =>
      CompiledQuery.raw("select pg_advisory_xact_lock(hashtextextended($1, 0))", [
        `${schemas.records} ${name}`,
      ]),
    tables: (names) =>
      CompiledQuery.raw(
        `lock table ${names.map((name) => placed(schemas, name)).join(", ")} in share row exclusive mode`,
      ),
  };
}

/** Who only reads holds nothing, but others write. */
export const READER: Locks = { ...NO_LOCKS, shared: true };
