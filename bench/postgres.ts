// The store on PostgreSQL: submitting an operation, listing a page and claiming, at two sizes; compared with
// the same statements sent directly over the same driver to the same server, and with the small store itself.

import { newId, SUBJECTS } from "@formation-mcp/contract";
import type { Store } from "@formation-mcp/operations";
import { openPostgresStore } from "@formation-mcp/operations/postgres";
import { startPostgres } from "@formation-mcp/operations/testing/postgres-server";
import { Client } from "pg";
import { fillPostgres } from "./postgres-fill.ts";
import { print, progress, say } from "./report.ts";
import type { Scope } from "./scope.ts";
import { pairs, ratioOfMedians, timed } from "./statistics.ts";
import { submission } from "./store.ts";
import { NOW, OWNERS } from "./store-fill.ts";
import { columnsOf, fresh, operationRow } from "./store-raw.ts";

const SIZES = { "10 k": 10_000, "1 M": 1_000_000 };
type Size = keyof typeof SIZES;
const PAIRS = 100;
/** How many submissions, pages or claims one measurement has. */
const BATCH = 20;
const PAGE = 20;
const LEASE_MS = 60_000;
/** Concurrent claimers. */
const CLAIMERS = 8;

interface Side {
  schema: string;
  store: Store;
  raw: Client;
  /** Not measured: restores what a measurement changed. */
  behind: Client;
  /** As many plain connections as there are claimers. */
  rawClaimers: Client[];
}

export async function benchPostgres(scope: Scope): Promise<void> {
  // Without fsync, because the time of the disk would hide the time of the store; without autovacuum, which
  // runs at any time.
  const postgres = await startPostgres({ settings: { autovacuum: "off", shared_buffers: "1GB" } });
  scope.defer(() => postgres.stop());
  const sides = new Map<Size, Side>();
  for (const [name, size] of Object.entries(SIZES)) {
    sides.set(name as Size, await open(scope, postgres.url, size));
  }
  const at = (size: Size) => sides.get(size) as Side;
  for (const [kind, { ours }] of Object.entries(KINDS)) {
    const name = `postgres: ${kind}, 1 M`;
    const seen = await pairs(
      PAIRS,
      () => ours(at("1 M")),
      () => ours(at("10 k")),
      progress(name, PAIRS),
    );
    const limit = { atMost: 1.5 };
    print({
      name,
      limit,
      judge: "ratio",
      result: ratioOfMedians(seen),
      against: "itself at 10 k operations",
    });
  }
  for (const [kind, { ours, plain, against }] of Object.entries(KINDS)) {
    const seen = await pairs(
      PAIRS,
      () => ours(at("1 M")),
      () => plain(at("1 M")),
    );
    const name = `postgres: ${kind}, 1 M, beside plain SQL`;
    print({ name, limit: null, judge: "ratio", result: ratioOfMedians(seen), against });
  }
}

async function open(scope: Scope, url: string, size: number): Promise<Side> {
  say(`  filling a store on PostgreSQL with ${size} operations`);
  const schema = `size_${size}`;
  const store = await openPostgresStore({
    url,
    schema,
    poolSize: CLAIMERS,
    statementTimeoutMs: 60_000,
    clock: { now: () => NOW },
  });
  scope.defer(() => store.close());
  const connect = async () => {
    const client = new Client({ connectionString: url });
    await client.connect();
    await client.query(`SET search_path = ${schema}`);
    scope.defer(() => client.end());
    return client;
  };
  const [raw, behind] = [await connect(), await connect()];
  const rawClaimers = await Promise.all(Array.from({ length: CLAIMERS }, connect));
  await fillPostgres(behind, schema, size);
  return { schema, store, raw, behind, rawClaimers };
}

interface Kind {
  ours(side: Side): Promise<number>;
  plain(side: Side): Promise<number>;
  against: string;
}

const KINDS: Record<string, Kind> = {
  create: {
    ours: (side) => unmade(side, (all) => each(all, (one) => side.store.submit(one))),
    plain: (side) => unmade(side, (all) => each(all, (one) => create(side.raw, one))),
    against: "BEGIN, two INSERTs, COMMIT",
  },
  "first page": {
    ours: ({ store }) => timed(() => each(owners(), (owner) => store.operations({ owner, limit: PAGE }))),
    plain: ({ raw }) => timed(() => each(owners(), (owner) => list(raw, owner))),
    against: "the same SELECT",
  },
  claim: {
    ours: (side) => unclaimed(side, () => each(owners(), () => claimOne(side.store))),
    plain: (side) => unclaimed(side, () => each(owners(), () => claimPlainly(side.raw))),
    against: "one UPDATE … RETURNING",
  },
  [`claims by ${CLAIMERS} at once`]: {
    ours: (side) =>
      unclaimed(side, () => Promise.all(side.rawClaimers.map(() => several(() => claimOne(side.store))))),
    plain: (side) =>
      unclaimed(side, () => Promise.all(side.rawClaimers.map((one) => several(() => claimPlainly(one))))),
    against: "as many UPDATE … RETURNING at once",
  },
};

const owners = () => Array.from({ length: BATCH }, (_, i) => `owner-${i % OWNERS}`);

async function each<T>(list: readonly T[], act: (one: T) => Promise<unknown>): Promise<void> {
  for (const one of list) await act(one);
}

async function several(act: () => Promise<unknown>): Promise<void> {
  for (let i = 0; i < 5; i++) await act();
}

/** Measures a submission of operations, and removes them again. */
async function unmade(
  { behind, schema }: Side,
  act: (submissions: ReturnType<typeof submission>[]) => Promise<unknown>,
): Promise<number> {
  const last = async (table: string) =>
    Number((await behind.query(`SELECT max(seq) AS last FROM ${schema}.${table}`)).rows[0]?.last);
  const [operations, builds] = [await last("operations"), await last("builds")];
  const submissions = owners().map(submission);
  const took = await timed(() => act(submissions));
  await behind.query("DELETE FROM operations WHERE seq > $1", [operations]);
  await behind.query("DELETE FROM builds WHERE seq > $1", [builds]);
  return took;
}

/** Measures a claim, and gives it back. */
async function unclaimed({ behind }: Side, act: () => Promise<unknown>): Promise<number> {
  const took = await timed(act);
  await behind.query(
    `UPDATE operations SET state = 'queued', attempt = 0, claimed_by = NULL, lease_until = NULL, started_at = NULL
       WHERE state = 'running' AND claimed_by <> 'node_other'`,
  );
  return took;
}

const NODE = newId("node");

async function claimOne(store: Store): Promise<void> {
  const free = { vcpus: 64, memory_mb: 262_144, disk_gb: 2048 };
  const operation = await store.claim({ node_id: NODE, subjects: [SUBJECTS.build], free, leaseMs: LEASE_MS });
  if (!operation) throw new Error("there is nothing to claim");
}

async function claimPlainly(client: Client): Promise<void> {
  const { rows } = await client.query({
    name: "claim",
    text: `UPDATE operations SET state = 'running', attempt = attempt + 1, claimed_by = $1, lease_until = $2, started_at = $3,
        progress = NULL, error = NULL, updated_at = $3, version = version + 1
      WHERE seq = (SELECT seq FROM operations WHERE state = 'queued' AND subject = $4 ORDER BY seq
        FOR UPDATE SKIP LOCKED LIMIT 1) RETURNING *`,
    values: [NODE, NOW + LEASE_MS, NOW, SUBJECTS.build],
  });
  if (rows.length !== 1) throw new Error("there is nothing to claim");
}

async function create(client: Client, one: ReturnType<typeof submission>): Promise<void> {
  await client.query("BEGIN");
  await insert(client, "builds", columnsOf({ ...one.build, ...fresh(NOW) }));
  await insert(client, "operations", columnsOf(operationRow(one, NOW)));
  await client.query("COMMIT");
}

async function insert(client: Client, table: string, row: Record<string, unknown>): Promise<void> {
  const names = Object.keys(row);
  const text = `INSERT INTO ${table} (${names}) VALUES (${names.map((_, i) => `$${i + 1}`)}) RETURNING *`;
  await client.query({ name: table, text, values: Object.values(row) });
}

async function list(client: Client, owner: string): Promise<void> {
  const { rows } = await client.query({
    name: "list",
    text: "SELECT * FROM operations WHERE seq < $1 AND owner = $2 ORDER BY seq DESC LIMIT $3",
    values: [Number.MAX_SAFE_INTEGER, owner, PAGE + 1],
  });
  if (rows.length !== PAGE + 1) throw new Error(`a page has ${rows.length} rows`);
}
