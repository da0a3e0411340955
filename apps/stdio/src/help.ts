// The text of `--help`.

import { settingsHelp } from "@formation-mcp/assembly/settings";

export const HELP = `formation-mcp: a Formfile becomes a running, reachable, verified VM on a machine you own.

Usage
  formation-mcp [options]          serve MCP over standard input and output (what a desktop host runs)
  formation-mcp doctor [--json]    say what this machine has, lacks, and enforces
  formation-mcp worker             run the worker in the foreground (it is started by itself when needed)
  formation-mcp purge --yes        delete every VM, image and record, and the state directory itself
  formation-mcp --version

With a server (FORMATION_URL) the same tools run there; this machine needs only Node 20
  formation-mcp keygen             make a key that signs in
  formation-mcp login              sign in to a server, or sign a browser's login code
  formation-mcp whoami | logout    say which account you have at the server; end the session
  formation-mcp token              create, list and revoke API tokens
  formation-mcp COMMAND --help     says more

Options of the server
  --allow-dir DIR      a directory that context_dir may name; may be repeated (default: the working
                       directory, unless that is / or the home directory)
  --read-only          only tools that change nothing
  --scopes LIST        only tools of these scopes: pack:read pack:write vm:read vm:write
                       operation:read operation:write
  --state-dir DIR      where everything is kept

Everything else is set in the environment. With PostgreSQL and NATS (FORMATION_DATABASE_URL, FORMATION_NATS_URL)
the records are there, and workers on other machines do the work, unless FORMATION_WORKER=auto.

${settingsHelp("formation-mcp")}

To use it in a desktop host, add this to its configuration of MCP servers:
  { "mcpServers": { "formation": { "command": "npx", "args": ["-y", "formation-mcp"] } } }
`;
