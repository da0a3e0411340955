// The command `worker`: the background worker of this machine. The server starts it from a copy of this
// program.

import { workerCommand } from "@formation-mcp/assembly/worker";
import { VERSION } from "../version.ts";

export function worker(args: string[]): Promise<number> {
  return workerCommand(args, { name: "formation-mcp-http", version: VERSION });
}
