import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { fileURLToPath } from "node:url";
import { openSqliteStore } from "@formation-mcp/operations/sqlite";
import { buildRequest } from "@formation-mcp/operations/testing/build-request";
import { afterEach, beforeEach, expect, it } from "vitest";

/**
 * A dump of a database of that version: a build, a running instance, and a queued build with an idempotency
 * key.
 */
const left = (version: number) => fileURLToPath(new URL(`./version-${version}.sql`, import.meta.url));
/** The columns that later versions added, by table. */
const LATER: Record<string, string[]> = {
  builds: ["archive"],
  instances: ["vcpus", "memory_mb", "disk_gb"],
  operations: ["labels"],
  nodes: ["cordoned", "drain", "removed_at"],
};
const NOW = 1_700_000_000_000;

let directory: string;
let path: string;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "operations-"));
  path = join(directory, "operations.db");
});
afterEach(() => rm(directory, { recursive: true }));

async function restore(version: number): Promise<void> {
  const raw = new DatabaseSync(path);
  raw.exec(await readFile(left(version), "utf8"));
  raw.close();
}

/** Every row, with the columns of version 1. */
function dump(): Record<string, unknown[]> {
  const raw = new DatabaseSync(path);
  try {
    const tables = ["operations", "builds", "deployments", "instances", "instance_metadata", "nodes"];
    return Object.fromEntries(
      [...tables, "idempotency"].map((table) => [
        table,
        raw
          .prepare(`select * from ${table}`)
          .all()
          .map(({ ...row }) => {
            for (const own of LATER[table] ?? []) delete row[own];
            return row;
          }),
      ]),
    );
  } finally {
    raw.close();
  }
}

it.each([1, 2])(
  "a database of version %i keeps every record, and can do what the newest can",
  async (version) => {
    await restore(version);
    const before = dump();
    const store = await openSqliteStore({ path, clock: { now: () => NOW } });
    expect(dump()).toEqual(before);
    const vm = await store.instanceByName("owner", "web");
    expect(vm).toMatchObject({ state: "running", config: { metadata: { team: "blue" } } });
    expect(vm).not.toHaveProperty("vcpus");
    expect(await store.artifactRoots()).toEqual([`sha256:${"ab".repeat(32)}`]);
    const idempotency = { key: "once", inputDigest: "d".repeat(64) };
    expect((await store.submit({ ...buildRequest(), idempotency })).replayed).toBe(true);
    const used = { vcpus: 2, memory_mb: 1024, disk_gb: 10, instances: 1, builds: 1 };
    expect(await store.usage("owner")).toEqual(used);
    await store.documents.put({ kind: "a", id: "1", doc: {} });
    const [node] = await store.nodes();
    expect(node).toMatchObject({ name: "here", cordoned: false, drain: null });
    const { items } = await store.operations({ owner: null, limit: 10 });
    expect(items.map(({ labels }) => labels)).toEqual(items.map(() => ({})));
    expect(
      await store.setNodeScheduling(node?.id ?? "node_", { cordoned: true, drain: "stop" }),
    ).toMatchObject({
      cordoned: true,
      drain: "stop",
    });
    const labelled = buildRequest();
    labelled.operation.labels = { gpu: "yes" };
    expect((await store.submit(labelled)).operation.labels).toEqual({ gpu: "yes" });
    if (version === 2) {
      expect(await store.documents.get("quota", "owner")).toMatchObject({ doc: { vcpus: 8 } });
      expect(await store.audit.read("c1", 1, 10)).toMatchObject([{ action: "pack_build" }]);
    }
    await store.close();
    const again = await openSqliteStore({ path });
    expect(await again.documents.get("a", "1")).toMatchObject({ version: 1 });
    await again.close();
  },
);

it("several that open it at once migrate it once", async () => {
  await restore(1);
  const stores = await Promise.all(Array.from({ length: 8 }, () => openSqliteStore({ path })));
  for (const store of stores) expect(await store.usage("owner")).toMatchObject({ instances: 1 });
  for (const store of stores) await store.close();
});
