// Runs the background worker of this machine; the server starts it from a copy of this program.

import { parseArgs } from "node:util";
import { jsonLogger, readConfiguration } from "@formation-mcp/assembly";
import { runWorker } from "@formation-mcp/assembly/worker";
import { VERSION } from "../version.ts";

export async function worker(args: string[]): Promise<number> {
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
  return ran || values.background ? 0 : 1;
}
