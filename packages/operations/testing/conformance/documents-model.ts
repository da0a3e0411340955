// Random histories of documents, each step compared with a table in memory.

import type { Store } from "@formation-mcp/operations";
import fc from "fast-check";
import { expect, it } from "vitest";
import { here } from "./documents.ts";
import { refused, type World } from "./world.ts";

/** Random histories against a table in memory. */
export function describeDocumentModel(open: () => World): void {
  it("after any history the documents are those of a simple table", async () => {
    const { documents, clock } = here(open);
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 40 }), async (steps) => {
        const table = new Map<string, Expected>();
        for (const owner of OWNERS) await documents.removeAll({ owner });
        for (const each of steps) await compareStep(documents, table, each, clock);
      }),
      { numRuns: 60 },
    );
  });
}

const OWNERS = ["x", "y"];

interface Expected {
  owner: string;
  alias: string | null;
  version: number;
  until: number;
}

const step = fc.record({
  do: fc.constantFrom("put", "put", "put", "cas", "take", "remove", "removeAll", "pass"),
  id: fc.constantFrom("1", "2", "3"),
  owner: fc.constantFrom(...OWNERS),
  alias: fc.constantFrom(null, "p", "q"),
  n: fc.integer({ min: 1, max: 3 }),
});

/** Takes a step in the store and in a table of the test, and compares what each answers and then holds. */
async function compareStep(
  documents: Store["documents"],
  table: Map<string, Expected>,
  { do: what, id, owner, alias, n }: typeof step extends fc.Arbitrary<infer T> ? T : never,
  clock: World["clock"],
): Promise<void> {
  const there = table.get(id);
  if (what === "put" || what === "cas") {
    const taken = [...table].some(
      ([other, { alias: its }]) => other !== id && alias !== null && its === alias,
    );
    const stale = what === "cas" && n !== (there?.version ?? 0);
    const until = clock.now() + n * 10;
    const put = documents.put(
      { kind: "any", id, owner, alias, doc: n, expires_at: until },
      ...(what === "cas" ? [n] : []),
    );
    if (taken || stale) await refused(put, "conflict");
    else {
      const version = (there?.version ?? 0) + 1;
      expect(await put).toMatchObject({ version });
      table.set(id, { owner, alias, version, until });
    }
  } else if (what === "take") {
    expect((await documents.take("any", id))?.version).toBe(there?.version);
    table.delete(id);
  } else if (what === "remove") {
    expect(await documents.remove("any", id)).toBe(table.delete(id));
  } else if (what === "removeAll") {
    const mine = [...table].filter(([, one]) => one.owner === owner);
    expect(await documents.removeAll({ owner })).toBe(mine.length);
    for (const [gone] of mine) table.delete(gone);
  } else {
    clock.pass(n * 5);
    for (const [old, { until }] of table) if (until <= clock.now()) table.delete(old);
  }
  const { items } = await documents.list({ kind: "any", limit: 10 });
  const held = items.map((item) => [item.id, item.owner, item.alias, item.version] as const);
  expect(held.sort()).toEqual(
    [...table].map(([key, one]) => [key, one.owner, one.alias, one.version]).sort(),
  );
}
