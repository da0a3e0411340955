// How the store's SQL differs in PostgreSQL: types, generated columns, the schema of each table, and the
// locks. The queries and the migrations themselves are the same as for SQLite.

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
import { type Locks, NO_LOCKS } from "../sql/locks.ts";
import type { Tables } from "../sql/schema.ts";

/** The schema of each table: that of the records, or the private one, which only servers see. */
const TABLE_SCHEMAS: Record<keyof Tables, "records" | "private"> = {
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

/** The quoted name of a table with its schema. An unknown name, such as an alias, gets no schema. */
export function qualified(schemas: Schemas, table: string): string {
  const schema = TABLE_SCHEMAS[table as keyof Tables];
  return schema ? `"${schemas[schema]}"."${table}"` : `"${table}"`;
}

class Compiler extends PostgresQueryCompiler {
  readonly #schemas: Schemas;

  constructor(schemas: Schemas) {
    super();
    this.#schemas = schemas;
  }

  protected override visitTable(node: TableNode): void {
    this.append(qualified(this.#schemas, node.table.identifier.name));
  }

  /** SQLite's integers have 64 bits, and it compares texts byte by byte. */
  protected override visitDataType(node: DataTypeNode): void {
    if (node.dataType === "integer") this.append("bigint");
    else if (node.dataType === "text") this.append('text collate "C"');
    else super.visitDataType(node);
  }

  /** SQLite numbers the rows of a table with an integer primary key; PostgreSQL needs an identity column. */
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

/** Kysely as a compiler only: the pool runs what it compiles. */
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

/** The locks of a transaction that writes. Each lasts until the transaction ends. */
export function writeLocks(schemas: Schemas): Locks {
  return {
    manyWriters: true,
    forUpdate: (select) => select.forUpdate(),
    skipLocked: (select, of) => (of ? select.forUpdate(of) : select.forUpdate()).skipLocked(),
    name: (name) =>
      CompiledQuery.raw("select pg_advisory_xact_lock(hashtextextended($1, 0))", [
        `${schemas.records} ${name}`,
      ]),
    tables: (names) =>
      CompiledQuery.raw(
        `lock table ${names.map((name) => qualified(schemas, name)).join(", ")} in share row exclusive mode`,
      ),
  };
}

/** A transaction that only reads takes no locks, although others write at the same time. */
export const READ_LOCKS: Locks = { ...NO_LOCKS, manyWriters: true };
