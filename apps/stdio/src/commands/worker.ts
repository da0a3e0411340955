// The command `worker`: in the foreground, or in the background for the stdio servers of this user.

import { workerCommand } from "@formation-mcp/assembly/worker";
import type { Command } from "../command.ts";
import { VERSION } from "../version.ts";

export const worker: Command = {
  help: `formation-mcp worker: run the worker in the foreground. It is started by itself when needed.

Usage
  formation-mcp worker [--state-dir DIR]

Example
  formation-mcp worker --state-dir /var/lib/formation-mcp
`,
  run: (args) => workerCommand(args, { name: "formation-mcp", version: VERSION }),
};
