// `formation-mcp-worker`: the worker of one machine as a daemon.

import { parseArgs } from "node:util";
import { terminalError } from "@formation-mcp/assembly";
import {
  drainWorker,
  readWorkerConfiguration,
  workerDaemon,
  workerNatsUser,
  workerStatus,
} from "@formation-mcp/assembly/daemon";
import manifest from "../package.json" with { type: "json" };
import { HELP } from "./help.ts";

async function main(): Promise<number> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      help: { type: "boolean", short: "h" },
      version: { type: "boolean" },
      config: { type: "string" },
      key: { type: "string" },
      "state-dir": { type: "string" },
    },
  });
  const [command = "work", ...more] = positionals;
  if (values.help || command === "help") {
    process.stdout.write(HELP);
    return 0;
  }
  if (values.version) {
    process.stdout.write(`${manifest.version}\n`);
    return 0;
  }
  if (more.length > 0 || !["work", "status", "drain", "nats-user"].includes(command)) {
    process.stderr.write(
      `formation-mcp-worker: there is no command ${JSON.stringify(positionals.join(" ").slice(0, 40))}.\n\n${HELP}`,
    );
    return 2;
  }
  const options = { file: values.config, stateDir: values["state-dir"] };
  if (command === "nats-user") {
    process.stdout.write(await workerNatsUser(options, values.key));
    return 0;
  }
  const configuration = readWorkerConfiguration(options);
  if (command === "work") return workerDaemon(configuration, manifest.version);
  // A shell may have other settings than the unit.
  process.stderr.write(`formation-mcp-worker: works on the state directory ${configuration.stateDir}.\n`);
  if (command === "drain") {
    const there = await drainWorker(configuration);
    process.stdout.write(there ? "The worker has left.\n" : "No worker runs here.\n");
    return 0;
  }
  const status = workerStatus(configuration);
  process.stdout.write(`${JSON.stringify(status, null, 2)}\n`);
  return (status["worker"] as { state: string } | null)?.state === "ready" ? 0 : 1;
}

process.exitCode = await main().catch((error: unknown) => {
  const { text, code } = terminalError("formation-mcp-worker", error);
  process.stderr.write(text);
  return code;
});
