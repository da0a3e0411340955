// Runs the worker: in the background for the stdio servers of this user, or in the foreground when asked.

import { parseArgs } from "node:util";
import { jsonLogger, readConfiguration } from "@formation-mcp/assembly";
import { runWorker } from "@formation-mcp/assembly/worker";
import type { Command } from "../command.ts";
import { VERSION } from "../version.ts";

export const worker: Command = {
  help: `formation-mcp worker: run the worker in the foreground. It is started by itself when needed.

Usage
  formation-mcp worker [--state-dir DIR]

Example
  formation-mcp worker --state-dir /var/lib/formation-mcp
`,
  async run(args) {
    const { values } = parseArgs({
      args,
      options: { background: { type: "boolean" }, "state-dir": { type: "string" } },
    });
    const configuration = readConfiguration({ stateDir: values["state-dir"] });
    const leave = new AbortController();
    for (const signal of ["SIGINT", "SIGTERM"] as const) process.on(signal, () => leave.abort());
    process.on("SIGHUP", () => {}); // it outlives the terminal it was started from
    const ran = await runWorker({
      configuration,
      logger: jsonLogger(configuration.logLevel),
      version: VERSION,
      signal: leave.signal,
      leaveWhenIdle: values.background === true,
    });
    if (ran || values.background) return 0;
    process.stderr.write(`formation-mcp: a worker already runs on ${configuration.stateDir}.\n`);
    return 1;
  },
};
