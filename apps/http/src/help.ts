// The text of `--help`.

import { settingsHelp } from "@formation-mcp/assembly/settings";

export const HELP = `formation-mcp-http: Formation for a team: MCP, REST, sign-in and OAuth at one address.

Usage
  formation-mcp-http [options]                 serve
  formation-mcp-http audit verify [options]    read the whole audit log and say whether it is as it was written
  formation-mcp-http bootstrap [options]       a new one-time token for the first admin, while there is no account
  formation-mcp-http migrate [options]         create or update the tables in PostgreSQL and the streams at NATS
  formation-mcp-http export --to DIR           write everything that the drivers hold into a new directory; stop
                                               servers and workers first
  formation-mcp-http import --from DIR         read an export into drivers that hold nothing yet
  formation-mcp-http nats-user [--key FILE]    print the servers' entry for the users in the configuration of NATS,
                                               with the least rights; creates their key if there is none (default:
                                               FORMATION_NATS_NKEY)
  formation-mcp-http --version

Options
  --config FILE        settings as JSON: the names below in lower case, without the prefix, also in groups:
                       {"http": {"port": 3010}, "public_url": "https://vm.example.org"}; the environment
                       overrides it
  --state-dir DIR      where everything is kept
  --worker-role NAME   migrate: the database role of workers (default: formation_worker)

Signals
  SIGTERM, SIGINT      accept no more requests, finish the running ones (at most 25 s), exit; the second signal
                       exits at once
  SIGHUP               read the certificate and its key again

${settingsHelp("formation-mcp-http")}
`;
