// What several parts need of the document store: whole lists, and telling a lost compare-and-set from other
// errors. This folder knows how the authority stores and seals its data, and nothing of what the data means.

import { everyItem } from "@formation-mcp/base";
import { type Documents, FormationError, type StoredDocument } from "@formation-mcp/contract";

const PAGE_DOCUMENTS = 50;

/** All documents of one kind and owner, read page by page, newest first. */
export async function listAll<T>(
  documents: Documents,
  kind: string,
  owner: string,
): Promise<StoredDocument<T>[]> {
  const items = everyItem((cursor) => documents.list<T>({ kind, owner, limit: PAGE_DOCUMENTS, cursor }));
  const all: StoredDocument<T>[] = [];
  for await (const item of items) all.push(item);
  return all;
}

/** Whether a write failed because another writer was first. */
export function isConflict(error: unknown): boolean {
  return error instanceof FormationError && error.code === "conflict";
}
