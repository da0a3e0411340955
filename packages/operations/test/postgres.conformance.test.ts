// @module-tag postgres

import type { Store } from "@formation-mcp/operations";
import { openPostgresStore } from "@formation-mcp/operations/postgres";
import { describeStore } from "@formation-mcp/operations/testing/conformance";
import { startPostgres, type TestPostgres } from "@formation-mcp/operations/testing/postgres-server";
import { afterAll, beforeAll } from "vitest";

let postgres: TestPostgres;
let schemas = 0;
beforeAll(async () => {
  postgres = await startPostgres();
});
afterAll(() => postgres.stop());

describeStore("PostgreSQL", async (clock) => {
  const schema = `formation_${schemas++}`;
  const stores: Store[] = [];
  const open = async () => {
    const store = await openPostgresStore({ url: postgres.url, schema, clock, pollMs: 5 });
    stores.push(store);
    return store;
  };
  return {
    store: await open(),
    reopen: open,
    async close() {
      for (const store of stores) await store.close();
    },
  };
});
