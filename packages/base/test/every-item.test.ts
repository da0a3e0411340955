// Paged listings: every item once and in order, and no page before it is needed.

import { everyItem } from "@formation-mcp/base";
import { describe, expect, it } from "vitest";

const PAGES = new Map<string | null, { items: number[]; cursor: string | null }>([
  [null, { items: [1, 2], cursor: "a" }],
  ["a", { items: [], cursor: "b" }],
  ["b", { items: [3], cursor: null }],
]);

describe("the items of a paged listing", () => {
  it("come once and in order, over empty pages too", async () => {
    const items = everyItem(async (cursor) => PAGES.get(cursor) ?? expect.fail(`asked for ${cursor}`));
    const seen: number[] = [];
    for await (const item of items) seen.push(item);
    expect(seen).toEqual([1, 2, 3]);
  });

  it("are read no further than asked for", async () => {
    const asked: (string | null)[] = [];
    const items = everyItem(async (cursor) => {
      asked.push(cursor);
      return PAGES.get(cursor) ?? expect.fail(`asked for ${cursor}`);
    });
    for await (const item of items) if (item === 2) break;
    expect(asked).toEqual([null]);
  });
});
