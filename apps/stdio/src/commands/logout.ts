// The command `logout`: ends the session with a server, there and here.

import { parseArgs } from "node:util";
import { readRemoteConfiguration } from "@formation-mcp/assembly/settings";
import { createClient } from "@formation-mcp/client";
import type { Command } from "../command.ts";
import { selectServer } from "../remote/connect.ts";

export const logout: Command = {
  help: `formation-mcp logout: end the session with a server, there and here. The key stays.

Usage
  formation-mcp logout [--server URL]

Example
  formation-mcp logout --server https://vm.example.org
`,
  async run(args) {
    const { values } = parseArgs({ args, options: { server: { type: "string" } } });
    const settings = readRemoteConfiguration({ url: values.server });
    const { url, storage } = selectServer(settings);
    if (storage.load() === null) {
      process.stderr.write(`Nobody is signed in to ${url}.\n`);
      return 0;
    }
    const client = createClient({ url, storage, allowHttp: settings.allowHttp });
    await client.signOut();
    process.stderr.write(`Signed out of ${client.url}.\n`);
    return 0;
  },
};
