// The command `token`: API tokens for machines that can't sign in. A new one is printed once, alone on
// standard output.

import { parseArgs } from "node:util";
import { readRemoteConfiguration } from "@formation-mcp/assembly/settings";
import { parseScopes } from "@formation-mcp/auth";
import type { Client, TokenRequest } from "@formation-mcp/client";
import { FormationError } from "@formation-mcp/contract";
import type { Command } from "../command.ts";
import { printable } from "../printable.ts";
import { connect } from "../remote/connect.ts";
import { parseDuration } from "../remote/durations.ts";

const HELP = `formation-mcp token: API tokens for machines that can't sign in.

Usage
  formation-mcp token create --name NAME [options]   make one; it is printed once, to standard output
  formation-mcp token list [--json]                  show yours, without the tokens themselves
  formation-mcp token revoke ID                      end one

Options of create
  --name NAME          what it is for
  --scopes LIST        fewer scopes than you have: pack:read pack:write vm:read vm:write …
  --expires DURATION   how long it is valid: 30d, 12h
  --instances LIST     only these instances, by name
  --label KEY=VALUE    only instances with this metadata; may be repeated

  --server URL         the server (default: FORMATION_URL, else the one signed in to last)

Example
  FORMATION_TOKEN=$(formation-mcp token create --name ci --scopes "pack:read pack:write vm:write" --expires 30d)
`;

export const token: Command = {
  help: HELP,
  async run([action, ...args]) {
    const act = action !== undefined && Object.hasOwn(ACTIONS, action) ? ACTIONS[action] : undefined;
    if (!act) {
      process.stderr.write(HELP);
      return 2;
    }
    return act(args);
  },
};

const SERVER = { server: { type: "string" } } as const;

const ACTIONS: Record<string, (args: string[]) => Promise<number>> = {
  async create(args) {
    const { values } = parseArgs({
      args,
      options: {
        ...SERVER,
        name: { type: "string" },
        scopes: { type: "string" },
        expires: { type: "string" },
        instances: { type: "string" },
        label: { type: "string", multiple: true },
      },
    });
    const { name, scopes, expires, instances, label } = values;
    if (!name)
      throw new FormationError("invalid", "--name is missing.", { remedy: "Say what the token is for." });
    const bounds = {
      ...(instances === undefined ? {} : { instances: instances.split(/[\s,]+/).filter(Boolean) }),
      ...(label === undefined ? {} : { metadata: Object.fromEntries(label.map(pair)) }),
    };
    const request: TokenRequest = {
      name,
      ...(scopes === undefined ? {} : { scopes: [...parseScopes(scopes)] }),
      ...(expires === undefined ? {} : { expires_in_seconds: parseDuration(expires, "--expires") }),
      ...(Object.keys(bounds).length === 0 ? {} : { bounds }),
    };
    const made = await clientOf(values.server).tokens.create(request);
    process.stdout.write(`${made.token}\n`);
    const until =
      made.record.expires_at === null ? "until it is revoked" : `until ${iso(made.record.expires_at)}`;
    process.stderr.write(`${made.record.id} is good ${until}. It is shown this once.\n`);
    return 0;
  },

  async list(args) {
    const { values } = parseArgs({ args, options: { ...SERVER, json: { type: "boolean" } } });
    const list = await clientOf(values.server).tokens.list();
    if (values.json) process.stdout.write(`${JSON.stringify(list, null, 2)}\n`);
    else if (list.length === 0) process.stderr.write("You have no API tokens.\n");
    for (const { id, name, scopes, expires_at, last_used_at } of values.json ? [] : list) {
      const until = expires_at === null ? "no end" : `until ${iso(expires_at)}`;
      const used = last_used_at === null ? "never used" : `used ${iso(last_used_at)}`;
      process.stdout.write(`${id}  ${printable(name)}  ${scopes.join(" ")}  ${until}  ${used}\n`);
    }
    return 0;
  },

  async revoke(args) {
    const { values, positionals } = parseArgs({ args, allowPositionals: true, options: SERVER });
    const [id, ...others] = positionals;
    if (id === undefined || others.length > 0) {
      throw new FormationError("invalid", "revoke takes the id of one token.", {
        remedy: "formation-mcp token list shows them.",
      });
    }
    await clientOf(values.server).tokens.revoke(id);
    process.stderr.write(`${printable(id)} is revoked.\n`);
    return 0;
  },
};

function clientOf(server: string | undefined): Client {
  return connect(readRemoteConfiguration({ url: server }));
}

function pair(text: string): [string, string] {
  const at = text.indexOf("=");
  if (at > 0) return [text.slice(0, at), text.slice(at + 1)];
  throw new FormationError("invalid", `--label: ${JSON.stringify(text.slice(0, 60))} is no KEY=VALUE.`, {
    remedy: "Write it as --label team=web",
  });
}

function iso(ms: number): string {
  return new Date(ms).toISOString();
}
