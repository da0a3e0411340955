// `nats-user`: what the operator of NATS writes into its configuration for the servers.

import { parseArgs } from "node:util";
import { serverNatsUser } from "@formation-mcp/assembly/http";

export async function natsUser(args: string[]): Promise<number> {
  const { values } = parseArgs({ args, options: { key: { type: "string" } } });
  process.stdout.write(await serverNatsUser(values.key));
  return 0;
}
