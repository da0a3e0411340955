// The command `migrate`: creates or updates the tables and streams, before the first start and after an
// update.

import { jsonLogger } from "@formation-mcp/assembly";
import { migrate as migrateAll } from "@formation-mcp/assembly/http";
import { announceTarget, settingsAnd } from "../options.ts";

export async function migrate(args: string[]): Promise<number> {
  const { configuration, values } = settingsAnd(args, { "worker-role": { type: "string" } });
  announceTarget(configuration);
  await migrateAll(configuration, jsonLogger("warn"), values["worker-role"]);
  process.stdout.write("The tables are up to date.\n");
  return 0;
}
