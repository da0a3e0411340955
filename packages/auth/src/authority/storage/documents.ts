// What several parts need of the document store: whole lists, and telling a lost compare-and-set from other
// errors. This folder knows how the authority stores and seals its data, and nothing of what the data means.

import { type Documents, FormationError, type StoredDocument } from "@formation-mcp/contract";

const PAGE_DOCUMENTS = 50;

/** All documents of one kind and owner, read page by page, newest first. */
export async function listAll<T>(
  documents: Documents,
  kind: string,
  owner: string,
): Promise<StoredDocument<T>[]> {
  const all: StoredDocument<T>[] = [];
  let cursor: string | null | undefined = null;
  while (cursor !== undefined) {
    const page: { items: StoredDocument<T>[]; cursor: string | null } = await documents.list<T>({
      kind,
      owner,
      limit: PAGE_DOCUMENTS,
      cursor,
    });
    all.push(...page.items);
    cursor = page.cursor ?? undefined;
  }
  return all;
}

/** Whether a write failed because another writer was first. */
export function isConflict(error: unknown): boolean {
  return error instanceof FormationError && error.code === "conflict";
}
