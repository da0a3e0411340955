// Listings that come in pages, read as one sequence.

/** One page of a listing; `cursor` asks for the next one and is null on the last. */
export interface Page<T> {
  items: readonly T[];
  cursor: string | null;
}

/** Every item of a paged listing. The next page is read only when its first item is asked for. */
export async function* everyItem<T>(page: (cursor: string | null) => Promise<Page<T>>): AsyncGenerator<T> {
  for (let cursor: string | null = null; ; ) {
    const { items, cursor: next }: Page<T> = await page(cursor);
    yield* items;
    if (next === null) return;
    cursor = next;
  }
}
