// `formation-mcp-worker`: the worker of one machine as a daemon, until it is told to stop.

import { parseArgs } from "node:util";
import { jsonLogger, readConfiguration, VARIABLES } from "@formation-mcp/assembly";
import { runWorker } from "@formation-mcp/assembly/worker";
import manifest from "../package.json" with { type: "json" };

const HELP = `formation-mcp-worker: builds images and runs VMs on this machine.

Usage
  formation-mcp-worker [--state-dir DIR]

SIGTERM or SIGINT: finish or give back what runs, then leave; VMs run on. Logs are JSON lines on standard error.

Environment
${Object.entries(VARIABLES)
  .map(([name, text]) => `  ${name.padEnd(34)} ${text}`)
  .join("\n")}
`;

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: {
      help: { type: "boolean", short: "h" },
      version: { type: "boolean" },
      "state-dir": { type: "string" },
    },
  });
  if (values.help) {
    process.stdout.write(HELP);
    return 0;
  }
  if (values.version) {
    process.stdout.write(`${manifest.version}\n`);
    return 0;
  }
  const configuration = readConfiguration({ stateDir: values["state-dir"] });
  const leave = new AbortController();
  for (const signal of ["SIGINT", "SIGTERM"] as const) process.on(signal, () => leave.abort());
  const ran = await runWorker({
    configuration,
    logger: jsonLogger(configuration.logLevel),
    version: manifest.version,
    signal: leave.signal,
    leaveWhenIdle: false,
  });
  if (!ran)
    process.stderr.write(`formation-mcp-worker: a worker already runs on ${configuration.stateDir}.\n`);
  return ran ? 0 : 1;
}

process.exitCode = await main().catch((error: unknown) => {
  const remedy = (error as { details?: { remedy?: string } }).details?.remedy;
  process.stderr.write(
    `formation-mcp-worker: ${error instanceof Error ? error.message : error}\n${remedy ? `  ${remedy}\n` : ""}`,
  );
  return 1;
});
