// The text of `--help`.

import { settingsHelp } from "@formation-mcp/assembly/settings";

export const HELP = `formation-mcp-worker: builds images and runs VMs on this machine.

Usage
  formation-mcp-worker [options]           work until a signal
  formation-mcp-worker status [options]    print this node's id, name and worker as JSON; exit code 0 if it works
  formation-mcp-worker drain [options]     tell the worker to leave, and wait until it has
  formation-mcp-worker nats-user [options] print this node's entry for the users in the configuration of NATS, with
                                           the least rights; creates its key if there is none
  formation-mcp-worker --version

Options
  --key FILE           nats-user: the key (default: FORMATION_NATS_NKEY)
  --config FILE        settings as JSON: the names below in lower case, without the prefix, also in groups:
                       {"node": {"name": "rack-1"}, "vcpus": 32}; the environment overrides it
  --state-dir DIR      where everything of this node is kept

Signals
  SIGTERM, SIGINT      take no more work, let running operations go on for FORMATION_DRAIN_SECONDS, give back the
                       rest, exit; the second signal gives them back at once. VMs run on, and the next worker
                       takes them over.

Logs are JSON lines on standard error. Under systemd (Type=notify, NotifyAccess=all) it reports when it is ready,
when it leaves, and, with WatchdogSec, that it is alive.

${settingsHelp("formation-mcp-worker")}
`;
