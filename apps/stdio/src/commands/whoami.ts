// The command `whoami`: prints which account this user has at the server.

import { parseArgs } from "node:util";
import { readRemoteConfiguration } from "@formation-mcp/assembly/settings";
import type { Command } from "../command.ts";
import { connect } from "../remote/connect.ts";

export const whoami: Command = {
  help: `formation-mcp whoami: say which account you have at the server.

Usage
  formation-mcp whoami [--server URL] [--json]

Example
  formation-mcp whoami --json
`,
  async run(args) {
    const { values } = parseArgs({
      args,
      options: { server: { type: "string" }, json: { type: "boolean" } },
    });
    const client = connect(readRemoteConfiguration({ url: values.server }));
    const { owner, scopes, bounds, token_id, expires_at } = await client.whoami();
    const expires = new Date(expires_at).toISOString();
    if (values.json) {
      const shown = { server: client.url, owner, scopes, bounds, token_id, expires_at: expires };
      process.stdout.write(`${JSON.stringify(shown, null, 2)}\n`);
      return 0;
    }
    process.stdout.write(
      [
        `server   ${client.url}`,
        `owner    ${owner}`,
        `scopes   ${scopes.join(" ")}`,
        ...(bounds ? [`bounds   ${JSON.stringify(bounds)}`] : []),
        `token    ${token_id}, until ${expires}`,
        "",
      ].join("\n"),
    );
    return 0;
  },
};
