// How labels are kept so that every database can compare them: `|key=value||key=value|`. No label holds a bar, so a node's
// labels can be struck out one by one, and what is wanted is all there if nothing is left.

import { checkLabels } from "@formation-mcp/contract";
import { type RawBuilder, type SqlBool, sql } from "kysely";

/** The labels as one text; null for none. @throws FormationError `invalid` */
export function writeLabels(labels: Record<string, string> = {}): string | null {
  return labelsOf(checkLabels(labels)).join("") || null;
}

export function readLabels(text: string | null): Record<string, string> {
  const pairs = text === null ? [] : text.slice(1, -1).split("||");
  return Object.fromEntries(
    pairs.map((pair) => {
      const equals = pair.indexOf("=");
      return [pair.slice(0, equals), pair.slice(equals + 1)];
    }),
  );
}

/** A node's labels, each as it is struck out. */
export function labelsOf(labels: Readonly<Record<string, string>>): string[] {
  return Object.entries(labels)
    .map(([key, value]) => `|${key}=${value}|`)
    .sort();
}

/** Whether nothing of a column of labels is left without these. */
export function allAmong(column: string, labels: readonly string[]): RawBuilder<SqlBool> {
  const left = labels.reduce<RawBuilder<unknown>>(
    (rest, label) => sql`replace(${rest}, ${label}, '')`,
    sql.ref(column),
  );
  return sql<SqlBool>`${left} = ''`;
}
