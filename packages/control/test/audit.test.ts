import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type AuditRecord, type AuditSeal, FormationError } from "@formation-mcp/contract";
import { type AuditEntry, type AuditOptions, openAudit, verifyAudit } from "@formation-mcp/control";
import type { AuditStore, Store } from "@formation-mcp/operations";
import { openSqliteStore } from "@formation-mcp/operations/sqlite";
import fc from "fast-check";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { until } from "./world.ts";

let dir: string;
let store: Store;
let now = 0;

beforeEach(async () => {
  now = Date.UTC(2026, 0, 1);
  dir = await mkdtemp(join(tmpdir(), "formation-audit-"));
  store = await openSqliteStore({ path: join(dir, "store.db"), clock: { now: () => now } });
});
afterEach(async () => {
  await store.close();
  await rm(dir, { recursive: true, force: true });
});

const event = (more: Partial<AuditEntry> = {}): AuditEntry => ({
  owner: "alice",
  credential: "tok_1",
  action: "vm_list",
  target: null,
  outcome: "ok",
  address: "192.0.2.1",
  trace_id: "0".repeat(32),
  ...more,
});

const open = (options: Partial<AuditOptions> = {}) =>
  openAudit({ store: store.audit, clock: { now: () => now }, gatherMs: 60_000, ...options });

const lines = async () => (await store.audit.page({ limit: 1000 })).items;
const verified = () => verifyAudit(store.audit, { now });

describe("recorded lines are stored", () => {
  test("a recorded line that was waited for is stored, with every line before it", async () => {
    const audit = open();
    await audit.record(event({ action: "vm_list" }), { wait: false });
    await audit.record(event({ action: "vm_create", outcome: "forbidden" }), { wait: true });
    expect((await lines()).map(({ seq, action, outcome, at }) => [seq, action, outcome, at])).toEqual([
      [2, "vm_create", "forbidden", now],
      [1, "vm_list", "ok", now],
    ]);
    await audit.close();
  });

  test("lines without wait are gathered, and stored after the gathering time, at 200 lines, or on close", async () => {
    const audit = open({ gatherMs: 20 });
    await audit.record(event(), { wait: false });
    await until(async () => (await lines()).length === 1, 30_000);
    const many = open();
    for (let i = 0; i < 200; i += 1) await many.record(event(), { wait: false });
    await until(async () => (await lines()).length === 201, 30_000);
    await many.record(event(), { wait: false });
    await many.close();
    expect(await lines()).toHaveLength(202);
    await audit.close();
    expect(await verified()).toEqual({ chains: 2, lines: 202, problems: [] });
  });

  test("lines recorded with wait in the same turn share a transaction", async () => {
    let transactions = 0;
    const audit = open({
      store: {
        ...store.audit,
        append: (records) => {
          transactions += 1;
          return store.audit.append(records);
        },
      },
    });
    await Promise.all(Array.from({ length: 100 }, () => audit.record(event(), { wait: true })));
    expect([transactions, (await lines()).length]).toEqual([1, 100]);
    await audit.close();
  });

  test("lines of several processes in any order are all stored, and every chain verifies", async () => {
    const call = fc.record({ wait: fc.boolean(), log: fc.nat(2), owner: fc.string(), target: fc.string() });
    await fc.assert(
      fc.asyncProperty(fc.array(call, { maxLength: 60 }), async (calls) => {
        const before = (await verified()).lines;
        const logs = [open(), open(), open()];
        await Promise.all(
          calls.map(({ wait, log, owner, target }) =>
            logs[log]?.record(event({ owner, target, action: owner }), { wait }),
          ),
        );
        await Promise.all(logs.map((log) => log.close()));
        const { lines: after, problems } = await verified();
        expect([after - before, problems]).toEqual([calls.length, []]);
      }),
      { numRuns: 25 },
    );
  });

  test("unsafe text is dropped or replaced, so that no line can break a terminal or another line", async () => {
    const audit = open();
    const hostile = 'a\r\nb\u001b[31m"\u202e\ud800';
    await audit.record(
      event({ owner: hostile, target: hostile, address: hostile, trace_id: hostile, action: hostile }),
      { wait: true },
    );
    await audit.record(event({ target: "vm_1" }), { wait: true });
    const [named, line] = await lines();
    expect(named?.target).toBe("vm_1");
    expect(line).toMatchObject({ target: null, address: null, trace_id: null, owner: 'a??b?[31m"??' });
    await audit.close();
    expect((await verified()).problems).toEqual([]);
  });
});

describe("the audit log of a store that fails", () => {
  const broken = (fails: () => "not" | "before" | "after"): AuditStore => ({
    ...store.audit,
    async append(records) {
      if (fails() === "before") throw new FormationError("unavailable", "The disk is full.");
      await store.audit.append(records);
      if (fails() === "after") throw new FormationError("unavailable", "The line is cut.");
    },
  });

  test("a waiting call fails if its line can't be stored; the line is stored once the store works again", async () => {
    let fails: "not" | "before" = "before";
    const audit = open({ store: broken(() => fails) });
    await expect(audit.record(event(), { wait: true })).rejects.toMatchObject({ code: "unavailable" });
    await audit.record(event(), { wait: false });
    fails = "not";
    await audit.record(event({ action: "vm_status" }), { wait: true });
    expect((await lines()).map(({ seq, action }) => [seq, action])).toEqual([
      [3, "vm_status"],
      [2, "vm_list"],
      [1, "vm_list"],
    ]);
    await audit.close();
    expect((await verified()).problems).toEqual([]);
  });

  test("lines whose answer from the store was lost are not written twice", async () => {
    let fails: "not" | "after" = "after";
    const audit = open({ store: broken(() => fails) });
    await audit.record(event(), { wait: true });
    fails = "not";
    await audit.record(event(), { wait: true });
    await audit.close();
    expect(await verified()).toEqual({ chains: 1, lines: 2, problems: [] });
  });

  test("the number of unstored lines is bounded: beyond it every record is refused", async () => {
    const lost: unknown[] = [];
    const logger = {
      log: (_: string, __: string, fields: Record<string, unknown> = {}) => void lost.push(fields["lines"]),
    };
    const audit = open({ store: broken(() => "before"), logger });
    const all = await Promise.allSettled(
      Array.from({ length: 11_000 }, () => audit.record(event(), { wait: false })),
    );
    const refused = all.filter(({ status }) => status === "rejected").length;
    expect(refused).toBeGreaterThanOrEqual(9000);
    await expect(audit.record(event(), { wait: false })).rejects.toMatchObject({ code: "unavailable" });
    await audit.close();
    expect(lost.at(-1), "what was never stored is told at the end").toBe(10_000);
  });

  test("a foreign line in the chain is logged, and the audit log continues in another chain", async () => {
    const audit = open();
    await audit.record(event(), { wait: true });
    const [first] = await lines();
    if (!first) throw new Error("there is no line");
    await store.audit.append([{ ...first, seq: 2, action: "forged" }]);
    await expect(audit.record(event({ action: "vm_create" }), { wait: true })).rejects.toThrow(
      FormationError,
    );
    await audit.record(event({ action: "vm_delete" }), { wait: true });
    await audit.close();
    const { chains, problems } = await verified();
    expect(chains).toBe(2);
    expect(problems.map(({ chain, seq }) => [chain, seq])).toEqual([[first.chain, 2]]);
    expect((await lines()).map(({ action }) => action)).toEqual(
      expect.arrayContaining(["vm_create", "vm_delete"]),
    );
  });

  test("a closed audit log records nothing", async () => {
    const audit = open();
    await audit.close();
    await audit.close();
    await expect(audit.record(event(), { wait: false })).rejects.toMatchObject({ code: "unavailable" });
  });
});

test("a growing chain is sealed periodically, and on close", async () => {
  const said: unknown[] = [];
  const logger = { log: (_: string, __: string, fields: unknown = {}) => void said.push(fields) };
  const audit = open({ sealEveryMs: 20, logger });
  const seals = async () => (await store.audit.chains())[0]?.seals ?? [];
  await audit.record(event(), { wait: true });
  await until(async () => (await seals()).length === 1, 30_000);
  await audit.record(event(), { wait: true });
  await audit.close();
  const all = await seals();
  expect(all.map(({ seq }) => seq)).toEqual([1, 2]);
  expect(said, "each seal is in the log of the server too").toEqual(
    all.map(({ chain, seq, hash }) => ({ chain, seq, hash })),
  );
});

test("verification accepts that old lines were removed, and reports missing younger lines", async () => {
  const audit = open({ sealEveryMs: 3_600_000 });
  for (let day = 0; day < 10; day += 1) {
    await audit.record(event(), { wait: true });
    now += 86_400_000;
  }
  await audit.record(event(), { wait: true });
  const day = 86_400_000;
  await store.sweep({ operationKeptMs: 0, strandedMs: day, unusedBuildKeptMs: day, auditKeptMs: 5 * day });
  const kept = (await lines()).length;
  expect(kept).toBeLessThan(11);
  expect(kept).toBeGreaterThanOrEqual(5);
  expect((await verifyAudit(store.audit, { now, keptMs: 5 * day })).problems).toEqual([]);
  const strict = await verifyAudit(store.audit, { now, keptMs: 50 * day });
  expect(strict.problems.map(({ what }) => what)).toEqual([
    expect.stringMatching(/^Lines 1 to \d are missing/),
  ]);
  await audit.close();
});

describe("a stored log that was changed later", () => {
  interface Kept {
    records: AuditRecord[];
    seals: AuditSeal[];
  }

  /** The stored lines and seals, for a manipulation to change. */
  const overKept = ({ records, seals }: Kept): AuditStore => ({
    ...store.audit,
    async chains() {
      return [...new Set(records.map(({ chain }) => chain))].map((chain) => {
        const own = records.filter((line) => line.chain === chain).map(({ seq }) => seq);
        return {
          chain,
          first_seq: Math.min(...own),
          last_seq: Math.max(...own),
          seals: seals.filter((seal) => seal.chain === chain),
        };
      });
    },
    async read(chain, from, limit) {
      return records
        .filter((line) => line.chain === chain && line.seq >= from)
        .sort((a, b) => a.seq - b.seq)
        .slice(0, limit);
    },
  });

  const FIELDS = ["at", "owner", "credential", "action", "target", "outcome", "address", "trace_id"] as const;
  type Manipulation = (kept: Kept, at: number, other: number) => void;
  const MANIPULATIONS: Record<string, Manipulation> = {
    ...Object.fromEntries(
      FIELDS.map((field): [string, Manipulation] => [
        `change ${field}`,
        ({ records }, at) => {
          const line = records[at];
          if (line) records[at] = { ...line, [field]: field === "at" ? line.at + 1 : "changed" };
        },
      ]),
    ),
    "change a line and its hash": ({ records }, at) => {
      const line = records[at];
      if (line) records[at] = { ...line, action: "changed", hash: "a".repeat(64) };
    },
    "remove one": ({ records }, at) => void records.splice(at, 1),
    "remove one and close the gap": ({ records }, at) => {
      records.splice(at, 1);
      for (const line of records.slice(at)) line.seq -= 1;
    },
    "remove the front": ({ records }, at) => void records.splice(0, at + 1),
    "remove the tail": ({ records }, at) => void records.splice(at, records.length),
    "swap two": ({ records }, at, other) => {
      const [a, b] = [records[at], records[other]];
      if (!a || !b || a === b) return void records.splice(at, 1);
      [a.seq, b.seq] = [b.seq, a.seq];
    },
    "insert one": ({ records }, at) => {
      const line = records[at];
      if (!line) return;
      for (const later of records.slice(at)) later.seq += 1;
      records.splice(at, 0, { ...line, seq: line.seq - 1, action: "inserted" });
    },
    "move one into another chain": ({ records }, at) => {
      const line = records[at];
      if (line) line.chain = "another";
    },
    "change a seal": ({ seals }) => {
      const seal = seals.at(-1);
      if (seal) seal.hash = "b".repeat(64);
    },
    "seal a line that does not exist": ({ seals }) => {
      const seal = seals.at(-1);
      if (seal) seals.push({ ...seal, seq: seal.seq + 1 });
    },
  };

  test.each(Object.entries(MANIPULATIONS))("verification finds: %s", async (_, manipulate) => {
    const audit = open();
    for (let i = 0; i < 12; i += 1) {
      await audit.record(event({ target: `vm_${i}` }), { wait: i % 3 === 0 });
      now += 1000;
    }
    await audit.close();
    const records = (await lines()).reverse();
    const seals = (await store.audit.chains()).flatMap((chain) => chain.seals);
    const kept = (): Kept => ({
      records: records.map((line) => ({ ...line })),
      seals: structuredClone(seals),
    });
    expect(await verifyAudit(overKept(kept()), { now })).toEqual({ chains: 1, lines: 12, problems: [] });
    await fc.assert(
      fc.asyncProperty(fc.nat(11), fc.nat(11), async (at, other) => {
        const changed = kept();
        // A chain that was removed whole can not be found: see the next test.
        manipulate(changed, at === 0 ? 1 : Math.min(at, 10), other);
        const { problems } = await verifyAudit(overKept(changed), { now });
        expect(problems.length).toBeGreaterThan(0);
      }),
      { numRuns: 20 },
    );
  });

  test("verification does not see that lines after the last seal are cut, but sees that sealed ones are", async () => {
    const audit = open();
    await audit.record(event(), { wait: true });
    await audit.close();
    const [line] = await lines();
    const [chain] = await store.audit.chains();
    if (!line || !chain) throw new Error("there is no line");
    const more = { records: [line], seals: [] };
    expect((await verifyAudit(overKept(more), { now })).problems).toEqual([]);
    const cut = overKept({ records: [], seals: chain.seals });
    const gone = { ...cut, chains: async () => [{ ...chain, first_seq: 0, last_seq: 0 }] };
    expect((await verifyAudit(gone, { now })).problems).toEqual([
      { chain: chain.chain, seq: 1, what: "Line 1 is missing." },
    ]);
  });
});
