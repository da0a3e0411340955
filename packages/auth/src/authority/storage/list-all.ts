// All documents of an owner, read page by page.

import type { Documents, StoredDocument } from "@formation-mcp/contract";

export async function everyOf<T>(
  documents: Documents,
  kind: string,
  owner: string,
): Promise<StoredDocument<T>[]> {
  const every: StoredDocument<T>[] = [];
  let cursor: string | null | undefined = null;
  while (cursor !== undefined) {
    const page: { items: StoredDocument<T>[]; cursor: string | null } = await documents.list<T>({
      kind,
      owner,
      limit: 50,
      cursor,
    });
    every.push(...page.items);
    cursor = page.cursor ?? undefined;
  }
  return every;
}
