// How labels are stored so that every database can compare them: as the text `|key=value||key=value|`. No
// label contains a bar. A node has all labels of an operation if nothing is left of the text after the node's
// labels are removed from it. This folder knows the tables, how records become rows, and how a script makes
// its queries; it knows no rule of the store.

import { checkLabels } from "@formation-mcp/contract";
import { type RawBuilder, type SqlBool, sql } from "kysely";

/** The text of an operation's labels; null for none. @throws FormationError `invalid` */
export function writeLabels(labels: Record<string, string> = {}): string | null {
  return labelParts(checkLabels(labels)).join("") || null;
}

/** The labels of such a text. */
export function readLabels(text: string | null): Record<string, string> {
  const pairs = text === null ? [] : text.slice(1, -1).split("||");
  return Object.fromEntries(
    pairs.map((pair) => {
      const equals = pair.indexOf("=");
      return [pair.slice(0, equals), pair.slice(equals + 1)];
    }),
  );
}

/** A node's labels, each as it appears in the text. */
export function labelParts(labels: Readonly<Record<string, string>>): string[] {
  return Object.entries(labels)
    .map(([key, value]) => `|${key}=${value}|`)
    .sort();
}

/** The condition that every label in a column is one of these. */
export function labelsAmong(column: string, labels: readonly string[]): RawBuilder<SqlBool> {
  const left = labels.reduce<RawBuilder<unknown>>(
    (rest, label) => sql`replace(${rest}, ${label}, '')`,
    sql.ref(column),
  );
  return sql<SqlBool>`${left} = ''`;
}
