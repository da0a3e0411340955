// Lists: newest first, every record once, only those of the owner asked for.

import type { Id } from "@formation-mcp/contract";
import type { Page } from "@formation-mcp/operations";
import { expect, it } from "vitest";
import { OWNER, refused, type World } from "./world.ts";

/** All pages, one after the other. */
async function through<T>(page: (cursor: string | null) => Promise<Page<T>>): Promise<T[]> {
  const found: T[] = [];
  for (let cursor: string | null = null, pages = 0; pages < 50; pages++) {
    const next: Page<T> = await page(cursor);
    found.push(...next.items);
    if (next.cursor === null) return found;
    cursor = next.cursor;
  }
  throw new Error("The pages never end.");
}

/** Pages and their cursors. */
export function describePages(open: () => World): void {
  it("pages show every record once, newest first, and end", async () => {
    const { store, build, clock } = open();
    const ids: Id[] = [];
    for (let i = 0; i < 7; i++) {
      const request = build();
      await store.submit(request);
      await store.submit(build({ owner: "other" }));
      ids.unshift(request.operation.id);
      clock.pass(i % 2);
    }
    for (const limit of [1, 2, 3, 7, 50]) {
      const found = await through((cursor) => store.operations({ owner: OWNER, limit, cursor }));
      expect(found.map(({ id }) => id)).toEqual(ids);
    }
    expect((await through((cursor) => store.operations({ owner: null, limit: 4, cursor }))).length).toBe(14);
    expect((await store.operations({ owner: OWNER, limit: 7 })).cursor).toBeNull();
    expect((await store.operations({ owner: "nobody", limit: 7 })).items).toEqual([]);
  });

  it("a page is not moved by what is written after the one before it", async () => {
    const { store, build } = open();
    for (let i = 0; i < 4; i++) await store.submit(build());
    const first = await store.operations({ owner: OWNER, limit: 2 });
    await store.submit(build());
    const second = await store.operations({ owner: OWNER, limit: 2, cursor: first.cursor });
    const ids = [...first.items, ...second.items].map(({ id }) => id);
    expect(new Set(ids).size).toBe(4);
    expect(second.cursor).toBeNull();
  });

  it("a cursor of another list, or a made-up one, is invalid", async () => {
    const { store, build } = open();
    for (let i = 0; i < 2; i++) await store.submit(build());
    const { cursor } = await store.operations({ owner: OWNER, limit: 1 });
    await refused(store.builds({ owner: OWNER, limit: 1, cursor }), "invalid");
    for (const wrong of ["", "x", "b3A", `${cursor}x.1`, "op.1", "9".repeat(5000)]) {
      await refused(store.operations({ owner: OWNER, limit: 1, cursor: wrong }), "invalid");
    }
  });
}

/** Filters of each list. */
export function describeFilters(open: () => World): void {
  it("operations are found by states and by what they work on", async () => {
    const { store, build, ready, live, ship } = open();
    const made = await ready();
    const vm = await live(made);
    const request = build();
    await store.submit(request);
    const again = ship(made, { instance_id: vm });
    await store.submit(again);
    const ids = async (query: object) =>
      (await through((cursor) => store.operations({ owner: OWNER, limit: 1, cursor, ...query }))).map(
        ({ id }) => id,
      );
    expect(await ids({ states: ["queued"] })).toEqual([again.operation.id, request.operation.id]);
    expect((await ids({ states: ["completed", "queued"] })).length).toBe(4);
    expect(await ids({ states: ["failed"] })).toEqual([]);
    expect(await ids({ target: request.build.id })).toEqual([request.operation.id]);
    expect((await ids({ target: vm })).length).toBe(2);
    expect(await ids({ target: vm, states: ["queued"] })).toEqual([again.operation.id]);
    expect(await ids({ target: again.deployment.id })).toEqual([again.operation.id]);
    expect((await store.operationFor(vm))?.id).toBe(again.operation.id);
    expect((await store.operationFor(again.deployment.id))?.id).toBe(again.operation.id);
  });

  it("builds and deployments are found by what they are of", async () => {
    const { store, ready, live, build } = open();
    const [a, b] = [await ready(), await ready()];
    const vm = await live(a);
    await store.submit(build());
    const builds = await store.builds({ owner: OWNER, limit: 10, states: ["ready"] });
    expect(builds.items.map(({ id }) => id)).toEqual([b, a]);
    expect((await store.builds({ owner: OWNER, limit: 10, name: "hello" })).items.length).toBe(3);
    expect((await store.builds({ owner: OWNER, limit: 10, name: "bye" })).items).toEqual([]);
    for (const query of [{}, { instance_id: vm }, { build_id: a }, { instance_id: vm, build_id: a }]) {
      expect((await store.deployments({ owner: OWNER, limit: 10, ...query })).items.length).toBe(1);
      expect((await store.deployments({ owner: "other", limit: 10, ...query })).items).toEqual([]);
    }
    expect((await store.deployments({ owner: OWNER, limit: 10, build_id: b })).items).toEqual([]);
  });

  it("instances are found by state, node and every metadata pair; deleted ones only if asked for", async () => {
    const { store, ready, live, ship, node, id } = open();
    const build = await ready();
    const a = await live(build, "a", { app: "web", tier: "1" });
    const b = await live(build, "b", { app: "web", tier: "2" });
    const gone = ship(build, { name: "c", metadata: { app: "web" } });
    await store.submit(gone);
    await store.requestCancel(OWNER, gone.operation.id);
    const names = async (query: object) =>
      (await through((cursor) => store.instances({ owner: OWNER, limit: 1, cursor, ...query }))).map(
        ({ id }) => id,
      );
    expect(await names({})).toEqual([b, a]);
    expect(await names({ states: ["deleted"] })).toEqual([gone.deployment.instance_id]);
    expect((await names({ states: ["deleted", "running"] })).length).toBe(3);
    expect(await names({ metadata: { app: "web" } })).toEqual([b, a]);
    expect(await names({ metadata: { app: "web", tier: "1" } })).toEqual([a]);
    expect(await names({ metadata: { app: "web", tier: "3" } })).toEqual([]);
    expect(await names({ metadata: { app: "web" }, states: ["deleted"] })).toEqual([
      gone.deployment.instance_id,
    ]);
    expect(await names({ node_id: node })).toEqual([b, a]);
    expect(await names({ node_id: id("node") })).toEqual([]);
    expect(await names({ owner: null, node_id: node, states: ["running"], metadata: { tier: "2" } })).toEqual(
      [b],
    );
    const { config, version } = await store.instance(OWNER, a);
    await store.observe(a, version, { config: { ...config, metadata: { tier: "3" } } });
    expect(await names({ metadata: { tier: "3" } })).toEqual([a]);
    expect(await names({ metadata: { app: "web" } })).toEqual([b]);
  });
}
