// The command `purge`: removes a state directory with everything in it: VMs, images, records.

import { parseArgs } from "node:util";
import { jsonLogger, readConfiguration } from "@formation-mcp/assembly";
import { purge as purgeState } from "@formation-mcp/assembly/purge";
import type { Command } from "../command.ts";

export const purge: Command = {
  help: `formation-mcp purge: delete every VM, image and record, and the state directory itself.

Usage
  formation-mcp purge --yes [--state-dir DIR]

Example
  formation-mcp purge --yes
`,
  async run(args) {
    const { values } = parseArgs({
      args,
      options: { yes: { type: "boolean" }, "state-dir": { type: "string" } },
    });
    const configuration = readConfiguration({ stateDir: values["state-dir"] });
    if (!values.yes) {
      process.stderr.write(
        `This deletes every VM, image and record in ${configuration.stateDir}. Say so with: formation-mcp purge --yes\n`,
      );
      return 2;
    }
    const removed = await purgeState(configuration, jsonLogger("warn"));
    process.stdout.write(`Removed ${configuration.stateDir} and ${removed.length} machines.\n`);
    return 0;
  },
};
