// What `--help` says.

import { VARIABLES } from "@formation-mcp/assembly/configuration";
import { REMOTE_VARIABLES } from "@formation-mcp/assembly/remote";

const listed = (variables: Record<string, string>) =>
  Object.entries(variables)
    .map(([name, text]) => `  ${name.padEnd(34)} ${text}`)
    .join("\n");

export const HELP = `formation-mcp: a Formfile becomes a running, reachable, verified VM on a machine you own.

Usage
  formation-mcp [options]          serve MCP over standard input and output (what a desktop host runs)
  formation-mcp doctor [--json]    say what this machine has, lacks, and enforces
  formation-mcp worker             run the worker in the foreground (it is started by itself when needed)
  formation-mcp purge --yes        delete every VM, image and record, and the state directory itself
  formation-mcp --version

With a server (FORMATION_URL) the same tools are done there; this machine needs Node 20 and nothing else
  formation-mcp keygen             make a key that signs in
  formation-mcp login              sign in to a server, or sign a browser's login code
  formation-mcp whoami | logout    say who the server takes you for; end the session
  formation-mcp token              create, list and revoke API tokens
  formation-mcp COMMAND --help     says more

Options of the server
  --allow-dir DIR      a directory that context_dir may name; may be repeated (default: the working
                       directory, unless that is / or the home directory)
  --read-only          only tools that change nothing
  --scopes LIST        only tools of these scopes: pack:read pack:write vm:read vm:write
                       operation:read operation:write
  --state-dir DIR      where everything is kept

Environment
${listed(VARIABLES)}

Environment, with a server
${listed(REMOTE_VARIABLES)}

With PostgreSQL and NATS (FORMATION_DATABASE_URL, FORMATION_NATS_URL; formation-mcp-http --help lists their settings) the
records are there, and workers elsewhere do what is asked for, unless FORMATION_WORKER=auto.

To use it in a desktop host, add this to its configuration of MCP servers:
  { "mcpServers": { "formation": { "command": "npx", "args": ["-y", "formation-mcp"] } } }
`;
