// The audit log: what is appended and sealed, what a query finds, what a sweep forgets.

import type { AuditRecord } from "@formation-mcp/contract";
import type { AuditQuery, AuditStore, Page } from "@formation-mcp/operations";
import fc from "fast-check";
import { expect, it } from "vitest";
import { HOUR, MINUTE, refused, SWEEP, type World } from "./world.ts";

const KEPT = { ...SWEEP, auditKeptMs: HOUR };

/** How lines are appended, sealed and found. */
export function describeAuditLines(open: () => World): void {
  it("lines are appended all or none, and each number of a chain once", async () => {
    const { audit, at } = here(open);
    const lines = [
      line("a", 1, at),
      line("a", 2, at, { owner: null, target: "web", trace_id: "f".repeat(32) }),
    ];
    await audit.append(lines);
    await audit.append([]);
    expect(await audit.read("a", 1, 10)).toEqual(lines);
    await refused(audit.append([line("a", 3, at), line("a", 2, at), line("a", 4, at)]), "conflict");
    expect(await audit.read("a", 1, 10)).toEqual(lines);
    expect(await audit.read("a", 2, 10)).toEqual(lines.slice(1));
    expect(await audit.read("a", 1, 1)).toEqual(lines.slice(0, 1));
    expect(await audit.read("b", 1, 10)).toEqual([]);
  });

  it("a seal may be renewed, never changed", async () => {
    const { audit, at } = here(open);
    await audit.append([line("b", 1, at), line("a", 1, at), line("a", 2, at)]);
    await audit.seal(sealOf("a", 1, at));
    await audit.seal(sealOf("a", 2, at));
    await audit.seal(sealOf("a", 2, at + 5));
    await refused(audit.seal({ ...sealOf("a", 2, at), hash: "0".repeat(64) }), "conflict");
    await audit.seal(sealOf("c", 7, at));
    expect(await audit.chains()).toEqual([
      { chain: "c", first_seq: 0, last_seq: 0, seals: [sealOf("c", 7, at)] },
      { chain: "b", first_seq: 1, last_seq: 1, seals: [] },
      { chain: "a", first_seq: 1, last_seq: 2, seals: [sealOf("a", 1, at), sealOf("a", 2, at + 5)] },
    ]);
  });

  it("any query is answered newest first, in pages of any size", async () => {
    const { audit, at } = here(open);
    const lines: AuditRecord[] = [];
    for (let i = 0; i < 60; i++) {
      lines.push(
        line(`chain ${i % 3}`, i, at + Math.floor(i / 2), {
          owner: [null, "x", "y"][i % 3] as string | null,
          action: i % 5 === 0 ? "vm_delete" : "vm_list",
          outcome: i % 7 === 0 ? "forbidden" : "ok",
        }),
      );
    }
    await audit.append(lines);
    const queries = fc.record(
      {
        owner: fc.constantFrom("x", "y", "z"),
        action: fc.constantFrom("vm_delete", "vm_list", "none"),
        outcome: fc.constantFrom("ok" as const, "forbidden" as const, "limit" as const),
        chain: fc.constantFrom("chain 0", "chain 1", "none"),
        since: fc.integer({ min: at, max: at + 30 }),
        until: fc.integer({ min: at, max: at + 30 }),
      },
      { requiredKeys: [] },
    );
    await fc.assert(
      fc.asyncProperty(queries, fc.integer({ min: 1, max: 30 }), async (query, limit) => {
        const { since = 0, until = Number.POSITIVE_INFINITY, ...same } = query;
        const wanted = lines
          .filter((each) => each.at >= since && each.at < until)
          .filter((each) => Object.entries(same).every(([key, value]) => each[key as "chain"] === value));
        expect(await pages(audit, { ...query, limit })).toEqual(wanted.reverse());
      }),
      { numRuns: 100 },
    );
    await refused(audit.page({ limit: 5, cursor: "b3AuMw" }), "invalid");
  });
}

/** Which lines a sweep forgets. */
export function describeAuditForgetting(open: () => World): void {
  it("lines are forgotten when they were kept long enough, and what is kept hangs on a seal", async () => {
    const { store, audit, clock, at } = here(open);
    await audit.append([1, 2, 3, 4].map((seq) => line("a", seq, at + seq * MINUTE)));
    await audit.seal(sealOf("a", 1, at));
    await audit.seal(sealOf("a", 4, at));
    clock.pass(HOUR + 3 * MINUTE - 1);
    await store.sweep(KEPT);
    expect(await audit.read("a", 1, 10)).toMatchObject([{ seq: 3 }, { seq: 4 }]);
    const seals = [sealOf("a", 2, at + 2 * MINUTE), sealOf("a", 4, at)];
    expect(await audit.chains()).toEqual([{ chain: "a", first_seq: 3, last_seq: 4, seals }]);
    const before = store.revision();
    await store.sweep(KEPT);
    expect(store.revision()).toBe(before);
    clock.pass(2 * MINUTE);
    await store.sweep(KEPT);
    expect(await audit.chains()).toEqual([]);
  });

  it("the last line of a chain stays as long as its seal", async () => {
    const { store, audit, clock, at } = here(open);
    await audit.append([line("a", 1, at), line("a", 2, at)]);
    await audit.seal(sealOf("a", 2, at + MINUTE));
    clock.pass(HOUR);
    await store.sweep(KEPT);
    expect(await audit.read("a", 1, 10)).toMatchObject([{ seq: 2 }]);
    clock.pass(MINUTE);
    await store.sweep(KEPT);
    expect(await audit.chains()).toEqual([]);
  });

  it("an old line behind a younger one stays, and keeps no line of another chain", async () => {
    const { store, audit, clock, at } = here(open);
    await audit.append([
      line("a", 1, at + HOUR),
      line("a", 2, at),
      line("b", 1, at),
      line("b", 2, at + HOUR),
    ]);
    clock.pass(HOUR);
    await store.sweep(KEPT);
    expect((await audit.chains()).map(({ chain, first_seq }) => [chain, first_seq])).toEqual([
      ["a", 1],
      ["b", 2],
    ]);
  });

  it("more lines than a batch are forgotten in one sweep", async () => {
    const { store, audit, clock, at } = here(open);
    for (const chain of ["a", "b"]) {
      await audit.append(Array.from({ length: 2500 }, (_, i) => line(chain, i + 1, at)));
    }
    await audit.append([line("b", 2501, at + 1)]);
    clock.pass(HOUR);
    await store.sweep(KEPT);
    const seals = [sealOf("b", 2500, at)];
    expect(await audit.chains()).toEqual([{ chain: "b", first_seq: 2501, last_seq: 2501, seals }]);
  }, 60_000);
}

function here(open: () => World) {
  const { store, clock } = open();
  return { store, audit: store.audit, clock, at: clock.now() };
}

async function pages(audit: AuditStore, query: AuditQuery): Promise<AuditRecord[]> {
  const found: AuditRecord[] = [];
  let cursor: string | null = null;
  do {
    const page: Page<AuditRecord> = await audit.page({ ...query, cursor });
    expect(page.items.length).toBeLessThanOrEqual(query.limit);
    found.push(...page.items);
    cursor = page.cursor;
  } while (cursor !== null);
  return found;
}

function hashOf(chain: string, seq: number): string {
  return Buffer.from(`${chain} ${seq}`).toString("hex").padEnd(64, "0");
}

function sealOf(chain: string, seq: number, at: number) {
  return { chain, seq, hash: hashOf(chain, seq), at };
}

function line(chain: string, seq: number, at: number, over: Partial<AuditRecord> = {}): AuditRecord {
  return {
    chain,
    seq,
    hash: hashOf(chain, seq),
    at,
    owner: "owner",
    credential: "fmt_1",
    action: "vm_list",
    target: null,
    outcome: "ok",
    address: "192.0.2.1",
    trace_id: null,
    ...over,
  };
}
