// What `--help` says.

import { VARIABLES } from "@formation-mcp/assembly/configuration";
import { HTTP_VARIABLES } from "@formation-mcp/assembly/http";

const table = (variables: Record<string, string>) =>
  Object.entries(variables)
    .map(([name, text]) => `  ${name.padEnd(39)} ${text}`)
    .join("\n");

export const HELP = `formation-mcp-http: Formation for a team: MCP, REST, sign-in and OAuth at one address.

Usage
  formation-mcp-http [options]                 serve
  formation-mcp-http audit verify [options]    read the whole audit log and say whether it is as it was written
  formation-mcp-http bootstrap [options]       while there is no account: a new one-time token for the first admin
  formation-mcp-http --version

Options
  --config FILE        settings as JSON: the names below in lower case, without the prefix, also in groups:
                       {"http": {"port": 3010}, "public_url": "https://vm.example.org"}; the environment is stronger
  --state-dir DIR      where everything is kept

Signals
  SIGTERM, SIGINT      take no more requests, finish those that run (at most 25 s), leave; again: leave at once
  SIGHUP               read the certificate and its key again

Settings of this server
${table(HTTP_VARIABLES)}

Settings of the machine, as for formation-mcp
${table(VARIABLES)}
`;
