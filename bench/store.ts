// The store as it grows: submitting an operation, listing a page and sweeping at three sizes; compared with
// the same SQL in raw node:sqlite on an identical file, and with the small store itself.

import { copyFileSync } from "node:fs";
import { join } from "node:path";
import type { DatabaseSync } from "node:sqlite";
import type { Operation } from "@formation-mcp/contract";
import type { Store } from "@formation-mcp/operations";
import { openSqliteStore } from "@formation-mcp/operations/sqlite";
import { buildRequest } from "@formation-mcp/operations/testing/build-request";
import { print, progress, say } from "./report.ts";
import type { Scope } from "./scope.ts";
import { pairs, ratioOfMedians, timed } from "./statistics.ts";
import { addOperations, FORMFILE, fill, KEPT_MS, NOW, OWNERS, openRaw } from "./store-fill.ts";
import { rawCleanup, rawCreate, rawList } from "./store-raw.ts";

const SIZES = { "1 k": 1000, "100 k": 100_000, "1 M": 1_000_000 };
type Size = keyof typeof SIZES;
const PAIRS = 200;
const CLEANUPS = 25;
/** How many submissions or pages one measurement has. */
const BATCH = 25;
const PAGE = 20;
const SWEEP = { operationKeptMs: KEPT_MS, strandedMs: 3_600_000, unusedBuildKeptMs: 7 * 86_400_000 };

/** A filled file, and a copy of it for the raw side. */
interface Side {
  size: number;
  expired: number;
  store: Store;
  raw: DatabaseSync;
  /**
   * Restores what a measurement changed, over another connection on each file, so that both sides lose their
   * caches.
   */
  behind: DatabaseSync;
  behindRaw: DatabaseSync;
  /** The cursor to the middle of each owner's list. */
  cursors: Map<string, { cursor: string; seq: number }>;
}

export async function benchStore(scope: Scope): Promise<void> {
  const sides = new Map<Size, Side>();
  for (const [name, size] of Object.entries(SIZES)) sides.set(name as Size, await open(scope, size));
  const at = (size: Size) => sides.get(size) as Side;
  await cleanups(at);
  await flatness(at);
  await againstRaw(at);
}

async function open(scope: Scope, size: number): Promise<Side> {
  say(`  filling a store with ${size} operations`);
  const directory = scope.directory();
  const path = join(directory, "ours.db");
  const expired = Math.min(size / 2, 5000);
  await (await openSqliteStore({ path })).close();
  fill(path, size, expired);
  copyFileSync(path, join(directory, "raw.db"));
  const store = await openSqliteStore({ path, clock: { now: () => NOW } });
  const [raw, behindRaw] = [openRaw(join(directory, "raw.db")), openRaw(join(directory, "raw.db"))];
  const behind = openRaw(path);
  scope.defer(async () => {
    await store.close();
    for (const db of [raw, behindRaw, behind]) db.close();
  });
  return { size, expired, store, raw, behind, behindRaw, cursors: await middles(store, size, behind) };
}

async function middles(store: Store, size: number, db: DatabaseSync): Promise<Side["cursors"]> {
  const cursors: Side["cursors"] = new Map();
  for (let owner = 0; owner < OWNERS; owner++) {
    const name = `owner-${owner}`;
    const half = Math.floor(size / OWNERS / 2);
    let cursor: string | null = null;
    let last: Operation | undefined;
    for (let passed = 0; passed < half; ) {
      const limit = Math.min(1000, half - passed);
      const page = await store.operations({ owner: name, limit, cursor });
      passed += page.items.length;
      cursor = page.cursor;
      last = page.items.at(-1);
      if (cursor === null) throw new Error("the filled store is smaller than it should be");
    }
    const row = db.prepare("SELECT seq FROM operations WHERE id = ?").get(last?.id ?? "");
    cursors.set(name, { cursor: cursor ?? "", seq: Number(row?.["seq"]) });
  }
  return cursors;
}

/** The time of {@link BATCH} submissions. They are removed again afterwards, unmeasured. */
async function create({ store, behind }: Side): Promise<number> {
  const submissions = Array.from({ length: BATCH }, (_, i) => submission(`owner-${i % OWNERS}`));
  const before = lastSeqs(behind);
  const took = await timed(async () => {
    for (const each of submissions) await store.submit(each);
  });
  dropAfter(behind, before);
  return took;
}

function lastSeqs(db: DatabaseSync): { operations: number; builds: number } {
  const last = (table: string) => Number(db.prepare(`SELECT max(seq) AS last FROM ${table}`).get()?.["last"]);
  return { operations: last("operations"), builds: last("builds") };
}

function dropAfter(db: DatabaseSync, { operations, builds }: ReturnType<typeof lastSeqs>): void {
  db.prepare("DELETE FROM operations WHERE seq > ?").run(operations);
  db.prepare("DELETE FROM builds WHERE seq > ?").run(builds);
}

/** A build request of that owner. */
export function submission(owner: string): Parameters<Store["submit"]>[0] {
  const operation = { owner, needs: { vcpus: 1, memory_mb: 2048, disk_gb: 1 } };
  return buildRequest({ operation, formfile: FORMFILE, now: NOW });
}

/** The time of the first page of {@link BATCH} owners, or of a page from the middle of each list. */
function list({ store, cursors }: Side, where: "first" | "middle"): Promise<number> {
  return timed(async () => {
    for (let i = 0; i < BATCH; i++) {
      const owner = `owner-${i % OWNERS}`;
      const cursor = where === "first" ? null : (cursors.get(owner)?.cursor ?? null);
      const page = await store.operations({ owner, limit: PAGE, cursor });
      if (page.items.length !== PAGE) throw new Error(`a page has ${page.items.length} operations`);
    }
  });
}

function listRaw({ raw, cursors }: Side, where: "first" | "middle"): number {
  const begins = Array.from({ length: BATCH }, (_, i) => {
    const owner = `owner-${i % OWNERS}`;
    return { owner, before: where === "first" ? Number.MAX_SAFE_INTEGER : (cursors.get(owner)?.seq ?? 0) };
  });
  return rawList(raw, begins, PAGE);
}

async function flatness(at: (size: Size) => Side): Promise<void> {
  const kinds = {
    create: create,
    "first page": (side: Side) => list(side, "first"),
    "page in the middle": (side: Side) => list(side, "middle"),
  };
  for (const [kind, act] of Object.entries(kinds)) {
    for (const size of ["100 k", "1 M"] as const) {
      const name = `store: ${kind}, ${size}`;
      const seen = await pairs(
        PAIRS,
        () => act(at(size)),
        () => act(at("1 k")),
        progress(name, PAIRS),
      );
      print({
        name,
        limit: { atMost: 1.5 },
        judge: "ratio",
        result: ratioOfMedians(seen),
        against: "itself at 1 k operations",
      });
    }
  }
}

async function againstRaw(at: (size: Size) => Side): Promise<void> {
  for (const size of Object.keys(SIZES) as Size[]) {
    const side = at(size);
    const made = await pairs(
      PAIRS,
      () => create(side),
      async () => {
        const before = lastSeqs(side.behindRaw);
        const took = rawCreate(
          side.raw,
          Array.from({ length: BATCH }, (_, i) => submission(`owner-${i % OWNERS}`)),
          NOW,
        );
        dropAfter(side.behindRaw, before);
        return took;
      },
    );
    const listed = await pairs(
      PAIRS,
      () => list(side, "first"),
      async () => listRaw(side, "first"),
    );
    const results = { create: made, "first page": listed };
    for (const [kind, seen] of Object.entries(results)) {
      print({
        name: `store: ${kind}, ${size}, beside raw SQL`,
        limit: null,
        judge: "ratio",
        result: ratioOfMedians(seen),
        against: "the same SQL in raw node:sqlite",
      });
    }
  }
}

async function cleanups(at: (size: Size) => Side): Promise<void> {
  for (const size of Object.keys(SIZES) as Size[]) {
    const side = at(size);
    const name = `store: cleanup rate, ${size}`;
    const times = await pairs(
      CLEANUPS,
      async () => {
        const took = await timed(async () => {
          const { removedOperations } = await side.store.sweep(SWEEP);
          if (removedOperations !== side.expired) throw new Error(`${removedOperations} were removed`);
        });
        addOperations(side.behind, 1, side.expired, side);
        return took;
      },
      async () => {
        const took = rawCleanup(side.raw, NOW - KEPT_MS, side.expired);
        addOperations(side.behindRaw, 1, side.expired, side);
        return took;
      },
      progress(name, CLEANUPS),
    );
    // As rates: the raw time divided by the time of the store.
    print({
      name,
      limit: { atLeast: 0.8 },
      judge: "ratio",
      result: ratioOfMedians({ ours: times.baseline, baseline: times.ours }),
      against: "the same batched DELETE in raw node:sqlite",
    });
  }
}
