// A page of a list that fits into a result. Long records make the page shorter. If the caller may not see
// some records, the page is filled with later ones. The cursor points after the last record shown; there is
// none if no more records follow.

import { FormationError, LIMITS } from "@formation-mcp/contract";
import type { Page } from "@formation-mcp/operations";

const PAGE_BYTES = LIMITS.resultBytes - 1000;
/**
 * How many records are read at a time, and at most in total, to fill a page with records that the caller may
 * see.
 */
const CHUNK_RECORDS = 100;
const MAX_RECORDS_READ = 2000;

export interface Paging<R, V> {
  query: (limit: number, cursor: string | null) => Promise<Page<R>>;
  input: { limit: number; cursor?: string | undefined };
  view: (record: R) => V;
  /** Whether the caller may see a record. Default: every record. */
  sees?: ((record: R) => boolean | Promise<boolean>) | undefined;
}

export async function page<R, V>(paging: Paging<R, V>): Promise<{ items: V[]; cursor: string | null }> {
  const { query, input, view, sees } = paging;
  const items: V[] = [];
  let bytes = 0;
  let read = 0;
  /** The position of the last record shown: `count` records after the cursor `from`. */
  let last: { from: string | null; count: number } | null = null;
  let from = input.cursor ?? null;
  for (;;) {
    const { items: records, cursor } = await query(sees ? CHUNK_RECORDS : input.limit, from);
    for (const [index, record] of records.entries()) {
      if (sees && !(await sees(record))) continue;
      const item = view(record);
      bytes += Buffer.byteLength(JSON.stringify(item)) + 1;
      if (items.length === input.limit || (bytes > PAGE_BYTES && last !== null))
        return { items, cursor: last && (await query(last.count, last.from)).cursor };
      items.push(item);
      last = { from, count: index + 1 };
    }
    read += records.length;
    if (cursor === null || !sees || read >= MAX_RECORDS_READ) return { items, cursor };
    from = cursor;
  }
}

/** Pages over records that are all in memory, newest first by id. */
export function pagesOf<R extends { id: string }>(records: readonly R[]) {
  const sorted = records.toSorted((a, b) => (a.id < b.id ? 1 : -1));
  return async (limit: number, cursor: string | null): Promise<Page<R>> => {
    const after = cursor === null ? null : readCursor(cursor);
    const rest = after === null ? sorted : sorted.filter(({ id }) => id < after);
    const items = rest.slice(0, limit);
    const last = items.at(-1);
    return { items, cursor: last && rest.length > limit ? Buffer.from(last.id).toString("base64url") : null };
  };
}

function readCursor(cursor: string): string {
  const id = Buffer.from(cursor, "base64url").toString();
  if (/^(vm|node)_\w{36}$/.test(id)) return id;
  throw new FormationError("invalid", "The cursor is not one that this list returned.", {
    remedy: "Give the cursor of the page before, or none for the first page.",
    field: "cursor",
  });
}
