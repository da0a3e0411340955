// What `--help` says.

import { settingsHelp } from "@formation-mcp/assembly/settings";

export const HELP = `formation-mcp-http: Formation for a team: MCP, REST, sign-in and OAuth at one address.

Usage
  formation-mcp-http [options]                 serve
  formation-mcp-http audit verify [options]    read the whole audit log and say whether it is as it was written
  formation-mcp-http bootstrap [options]       while there is no account: a new one-time token for the first admin
  formation-mcp-http migrate [options]         make the tables in PostgreSQL and what NATS keeps, or bring them up to date
  formation-mcp-http export --to DIR           write all that the settings' drivers hold into a new directory; servers
                                               and workers are stopped meanwhile
  formation-mcp-http import --from DIR         read that into the settings' drivers, which hold nothing yet
  formation-mcp-http nats-user [--key FILE]    the servers' entry for the users in the configuration of NATS, with the least
                                               rights; makes their key (default: FORMATION_NATS_NKEY) if it is not there
  formation-mcp-http --version

Options
  --config FILE        settings as JSON: the names below in lower case, without the prefix, also in groups:
                       {"http": {"port": 3010}, "public_url": "https://vm.example.org"}; the environment is stronger
  --state-dir DIR      where everything is kept
  --worker-role NAME   migrate: what workers log in as at the database (default: formation_worker)

Signals
  SIGTERM, SIGINT      take no more requests, finish those that run (at most 25 s), leave; again: leave at once
  SIGHUP               read the certificate and its key again

${settingsHelp("formation-mcp-http")}
`;
