// `formation-mcp-worker`: the worker of one machine as a daemon, until it is told to stop.

import { parseArgs } from "node:util";
import { terminalError } from "@formation-mcp/assembly";
import {
  drainWorker,
  readWorkerConfiguration,
  workerDaemon,
  workerNatsUser,
  workerStatus,
} from "@formation-mcp/assembly/daemon";
import { settingsHelp } from "@formation-mcp/assembly/settings";
import manifest from "../package.json" with { type: "json" };

const HELP = `formation-mcp-worker: builds images and runs VMs on this machine.

Usage
  formation-mcp-worker [options]           work, until told to leave
  formation-mcp-worker status [options]    this node's id, name and worker, as JSON; exit code 0 if it works
  formation-mcp-worker drain [options]     tell the worker to leave, and wait until it has
  formation-mcp-worker nats-user [options] this node's entry for the users in the configuration of NATS, with the least
                                           rights; makes its key if the file is not there
  formation-mcp-worker --version

Options
  --key FILE           nats-user: the key (default: FORMATION_NATS_NKEY)
  --config FILE        settings as JSON: the names below in lower case, without the prefix, also in groups:
                       {"node": {"name": "rack-1"}, "vcpus": 32}; the environment is stronger
  --state-dir DIR      where everything of this node is kept

Signals
  SIGTERM, SIGINT      take nothing more, let what runs go on for FORMATION_DRAIN_SECONDS, give back the rest, leave;
                       again: give it back at once. VMs run on, and the next worker finds them.

Logs are JSON lines on standard error. Under systemd (Type=notify, NotifyAccess=all) it says when it is ready, that it
leaves, and, with WatchdogSec, that it lives.

${settingsHelp("formation-mcp-worker")}
`;

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
  // A shell's settings are not a unit's.
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
