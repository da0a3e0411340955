// A page of a list that fits into a result: if the records are long, the page is made shorter, with the cursor that
// belongs to its last record.

import { LIMITS } from "@formation-mcp/contract";
import type { Page } from "@formation-mcp/operations";

const BUDGET = LIMITS.resultBytes - 1000;

export async function page<R, V>(
  query: (limit: number) => Promise<Page<R>>,
  limit: number,
  view: (record: R) => V,
): Promise<{ items: V[]; cursor: string | null }> {
  const first = await query(limit);
  const items = first.items.map(view);
  let bytes = 0;
  const fitting = items.findIndex((item) => {
    bytes += Buffer.byteLength(JSON.stringify(item)) + 1;
    return bytes > BUDGET;
  });
  if (fitting <= 0) return { items, cursor: first.cursor };
  const shorter = await query(fitting);
  return { items: shorter.items.map(view), cursor: shorter.cursor };
}
