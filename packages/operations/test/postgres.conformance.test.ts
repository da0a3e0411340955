// @module-tag postgres

import type { Store } from "@formation-mcp/operations";
import { openPostgresStore } from "@formation-mcp/operations/postgres";
import { describeStore } from "@formation-mcp/operations/testing/conformance";
import { emptyStore } from "@formation-mcp/operations/testing/empty-store";
import { startPostgres, type TestPostgres } from "@formation-mcp/operations/testing/postgres-server";
import { Client } from "pg";
import { afterAll, beforeAll } from "vitest";

let postgres: TestPostgres;
let admin: Client;
const schema = "formation";
beforeAll(async () => {
  postgres = await startPostgres();
  admin = new Client({ connectionString: postgres.url });
  await admin.connect();
});
afterAll(async () => {
  await admin?.end();
  await postgres?.stop();
});

describeStore("PostgreSQL", async (clock) => {
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
      await emptyStore(admin, schema);
    },
  };
});
