import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Store } from "@formation-mcp/operations";
import { openSqliteStore } from "@formation-mcp/operations/sqlite";
import { describeStore } from "@formation-mcp/operations/testing/conformance";

describeStore("SQLite", async (clock) => {
  const directory = await mkdtemp(join(tmpdir(), "operations-"));
  const path = join(directory, "operations.db");
  const stores: Store[] = [];
  const open = async () => {
    const store = await openSqliteStore({ path, clock });
    stores.push(store);
    return store;
  };
  return {
    store: await open(),
    reopen: open,
    async close() {
      for (const store of stores) await store.close();
      await rm(directory, { recursive: true });
    },
  };
});
