// Documents: compare-and-set, taken once, found by id, alias, owner and group, absent when expired.

import type { NewDocument, StoredDocument } from "@formation-mcp/contract";
import type { Page, Store } from "@formation-mcp/operations";
import fc from "fast-check";
import { expect, it } from "vitest";
import { MINUTE, OWNER, type Reopen, refused, SWEEP, type World } from "./world.ts";

/** What one document holds, and which version a write expects. */
export function describeWrites(open: () => World): void {
  it("a document is read by its id and its alias; put again it has a higher version and keeps created_at", async () => {
    const { documents, clock } = here(open);
    const document = {
      kind: "key",
      id: "1",
      owner: OWNER,
      group: "family",
      alias: "one",
      artifact: "sha256:1",
      doc: { name: "laptop", tags: ["a", null] },
      expires_at: clock.now() + MINUTE,
    };
    const times = { created_at: clock.now(), updated_at: clock.now() };
    const put = await documents.put(document);
    expect(put).toEqual({ ...document, version: 1, ...times });
    expect(await documents.get("key", "1")).toEqual(put);
    expect(await documents.byAlias("key", "one")).toEqual(put);
    clock.pass(5);
    const again = await documents.put({ kind: "key", id: "1", doc: "other" });
    const bare = { owner: null, group: null, alias: null, artifact: null, expires_at: null };
    expect(again).toEqual({
      kind: "key",
      id: "1",
      ...bare,
      doc: "other",
      version: 2,
      created_at: times.created_at,
      updated_at: clock.now(),
    });
    expect(await documents.get("key", "1")).toEqual(again);
    expect(await documents.byAlias("key", "one")).toBeNull();
    expect(await documents.get("other", "1")).toBeNull();
  });

  it("any JSON value is read back as it was, under any id", async () => {
    const { documents } = here(open);
    await fc.assert(
      fc.asyncProperty(fc.string({ unit: "grapheme" }), fc.jsonValue(), async (id, doc) => {
        await documents.put({ kind: "any", id, doc });
        expect((await documents.get("any", id))?.doc).toEqual(JSON.parse(JSON.stringify(doc)));
      }),
      { numRuns: 100 },
    );
  });

  it("what JSON cannot hold, and a time that is no whole number, are refused", async () => {
    const { documents } = here(open);
    await refused(documents.put({ kind: "a", id: "1", doc: undefined }), "invalid");
    for (const expires_at of [Number.NaN, Number.POSITIVE_INFINITY, 1.5]) {
      await refused(documents.put({ kind: "a", id: "1", doc: 1, expires_at }), "invalid");
    }
    expect(await documents.get("a", "1")).toBeNull();
  });

  it("a writer that expects another version writes nothing", async () => {
    const { documents } = here(open);
    const document = { kind: "a", id: "1", doc: 1 };
    await refused(documents.put(document, 1), "conflict");
    await documents.put(document, 0);
    await refused(documents.put({ ...document, doc: 2 }, 0), "conflict");
    await documents.put({ ...document, doc: 2 }, 1);
    await refused(documents.put({ ...document, doc: 3 }, 1), "conflict");
    expect(await documents.get("a", "1")).toMatchObject({ doc: 2, version: 2 });
  });

  it("an alias has one holder within its kind, until that gives it up", async () => {
    const { documents } = here(open);
    await documents.put({ kind: "a", id: "1", alias: "x", doc: 1 });
    await documents.put({ kind: "b", id: "1", alias: "x", doc: 1 });
    await refused(documents.put({ kind: "a", id: "2", alias: "x", doc: 2 }), "conflict");
    expect(await documents.get("a", "2")).toBeNull();
    await documents.put({ kind: "a", id: "1", alias: "x", doc: 3 });
    await documents.put({ kind: "a", id: "1", doc: 4 });
    await documents.put({ kind: "a", id: "2", alias: "x", doc: 5 });
    expect(await documents.byAlias("a", "x")).toMatchObject({ id: "2" });
  });
}

/** Documents that are taken once, that expire, and whose artifacts are kept. */
export function describeExpiry(open: () => World, reopen: Reopen): void {
  it("of many that take a document, or write over the same version, one succeeds", async () => {
    const { documents } = here(open);
    const all = [documents, (await reopen())?.documents ?? documents];
    for (let round = 0; round < 20; round++) {
      await documents.put({ kind: "a", id: "1", doc: round });
      const writes = all.flatMap((each) =>
        [1, 2].map((doc) => each.put({ kind: "a", id: "1", doc }, 1).catch(() => null)),
      );
      expect((await Promise.all(writes)).filter((written) => written)).toHaveLength(1);
      const taken = await Promise.all(all.flatMap((each) => [each.take("a", "1"), each.take("a", "1")]));
      expect(taken.filter((one) => one !== null)).toMatchObject([{ id: "1", version: 2 }]);
      expect(await documents.get("a", "1")).toBeNull();
    }
  });

  it("an expired document is absent to every query before any sweep, and its id and alias are free", async () => {
    const { store, documents, clock } = here(open);
    const document: NewDocument = {
      kind: "a",
      id: "1",
      owner: OWNER,
      group: "g",
      alias: "x",
      artifact: "sha256:1",
      doc: 1,
      expires_at: clock.now() + MINUTE,
    };
    await documents.put(document);
    clock.pass(MINUTE - 1);
    expect(await documents.get("a", "1")).not.toBeNull();
    expect(await store.artifactRoots()).toEqual(["sha256:1"]);
    clock.pass(1);
    expect(await documents.get("a", "1")).toBeNull();
    expect(await documents.byAlias("a", "x")).toBeNull();
    expect(await documents.take("a", "1")).toBeNull();
    expect(await documents.remove("a", "1")).toBe(false);
    expect(await documents.removeAll({ owner: OWNER })).toBe(0);
    expect((await documents.list({ kind: "a", limit: 10 })).items).toEqual([]);
    expect(await store.artifactRoots()).toEqual([]);
    await refused(documents.put(document, 1), "conflict");
    const later = { ...document, expires_at: null };
    expect(await documents.put({ ...later, id: "2" }, 0)).toMatchObject({ version: 1 });
    expect(await documents.put({ ...later, alias: null }, 0)).toMatchObject({
      version: 1,
      created_at: clock.now(),
    });
    expect(await documents.byAlias("a", "x")).toMatchObject({ id: "2" });
  });

  it("the artifacts of documents are roots beside those of builds, each once", async () => {
    const { store, documents, build } = here(open);
    const request = build();
    await store.submit({ ...request, build: { ...request.build, context_digest: "sha256:b" } });
    for (const [id, artifact] of Object.entries({ 1: "sha256:a", 2: "sha256:b", 3: "sha256:a", 4: null })) {
      await documents.put({ kind: "context", id, artifact, doc: {} });
    }
    expect((await store.artifactRoots()).sort()).toEqual(["sha256:a", "sha256:b"]);
  });
}

/** Documents of an owner, a group or a kind: removed, listed and swept together. */
export function describeLists(open: () => World): void {
  it("all documents of an owner or a group are removed at once, of some kinds or of all, and never of all owners", async () => {
    const { documents } = here(open);
    const fill = async () => {
      for (const kind of ["a", "b"])
        for (const owner of ["x", "y"])
          for (const group of ["g", "h"])
            await documents.put({ kind, id: `${owner}${group}`, owner, group, doc: 0 });
    };
    const left = async () => {
      const pages = await Promise.all(["a", "b"].map((kind) => documents.list({ kind, limit: 10 })));
      return pages.flatMap(({ items }) => items.map(({ kind, id }) => `${kind}${id}`)).sort();
    };
    await fill();
    await refused(documents.removeAll({}), "invalid");
    await refused(documents.removeAll({ kinds: ["a"] }), "invalid");
    expect(await documents.removeAll({ owner: "x", kinds: [] })).toBe(0);
    expect(await documents.removeAll({ owner: "x", group: "g", kinds: ["a"] })).toBe(1);
    expect(await left()).toEqual(["axh", "ayg", "ayh", "bxg", "bxh", "byg", "byh"]);
    expect(await documents.removeAll({ owner: "x" })).toBe(3);
    expect(await left()).toEqual(["ayg", "ayh", "byg", "byh"]);
    await fill();
    expect(await documents.removeAll({ group: "g", kinds: ["a", "b"] })).toBe(4);
    expect(await left()).toEqual(["axh", "ayh", "bxh", "byh"]);
  });

  it("lists newest first, page by page, of an owner, a group or a kind", async () => {
    const { documents } = here(open);
    for (let i = 0; i < 12; i++) {
      await documents.put({ kind: "a", id: `${i}`, owner: `o${i % 2}`, group: `g${i % 3}`, doc: i });
      await documents.put({ kind: "b", id: `${i}`, owner: "o0", group: "g0", doc: i });
    }
    await documents.put({ kind: "a", id: "3", owner: "o1", group: "g0", doc: 3 }); // Keeps its place.
    const all = async (filter: { owner?: string; group?: string }) => {
      const found: string[] = [];
      let cursor: string | null = null;
      do {
        const page: Page<StoredDocument> = await documents.list({
          kind: "a",
          ...filter,
          limit: 4,
          cursor,
        });
        expect(page.items.length).toBeLessThanOrEqual(4);
        found.push(...page.items.map(({ id }) => id));
        cursor = page.cursor;
      } while (cursor !== null);
      return found.map(Number);
    };
    const down = [11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0];
    expect(await all({})).toEqual(down);
    expect(await all({ owner: "o1" })).toEqual(down.filter((i) => i % 2 === 1));
    expect(await all({ group: "g1" })).toEqual(down.filter((i) => i % 3 === 1));
    expect(await all({ owner: "o0", group: "g0" })).toEqual([6, 0]);
    await refused(documents.list({ kind: "a", limit: 4, cursor: "b3AuMw" }), "invalid");
  });

  it("the sweep removes expired documents, once", async () => {
    const { store, documents, clock } = here(open);
    for (let i = 0; i < 1200; i++) {
      await documents.put({
        kind: "a",
        id: `${i}`,
        doc: i,
        expires_at: clock.now() + (i < 1100 ? 1 : MINUTE),
      });
    }
    await store.sweep(SWEEP);
    clock.pass(10);
    const before = store.revision();
    await store.sweep(SWEEP);
    const after = store.revision();
    expect(after).toBeGreaterThan(before);
    await store.sweep(SWEEP);
    expect(store.revision()).toBe(after);
    expect((await documents.list({ kind: "a", limit: 1000 })).items).toHaveLength(100);
  });
}

/** The world, with its documents at hand. */
export function here(open: () => World): World & { documents: Store["documents"] } {
  const world = open();
  return { ...world, documents: world.store.documents };
}
