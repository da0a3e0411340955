// The command `nats-user`: the entry of the servers for the configuration of NATS.

import { parseArgs } from "node:util";
import { serverNatsUser } from "@formation-mcp/assembly/http";

export async function natsUser(args: string[]): Promise<number> {
  const { values } = parseArgs({ args, options: { key: { type: "string" } } });
  process.stdout.write(await serverNatsUser(values.key));
  return 0;
}
