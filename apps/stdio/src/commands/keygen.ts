// The command `keygen`: makes a key that signs in to servers, and prints only its id.

import { parseArgs } from "node:util";
import { readRemoteConfiguration } from "@formation-mcp/assembly/settings";
import { KEY_KINDS, type KeyKind } from "@formation-mcp/auth/keys";
import { FormationError } from "@formation-mcp/contract";
import type { Command } from "../command.ts";
import { makeKey } from "../remote/keys.ts";

export const keygen: Command = {
  help: `formation-mcp keygen: make a key that signs in to servers.

Usage
  formation-mcp keygen [--kind ed25519|secp256k1] [--out FILE] [--passphrase]

  --kind KIND      ed25519 (default), or secp256k1 for an Ethereum address
  --out FILE       where it is written (default: $XDG_CONFIG_HOME/formation-mcp/key.json)
  --passphrase     seal the file: the passphrase is asked for, or FORMATION_KEY_PASSPHRASE

Its id goes to standard output: give that to the server's operator. Keep the file secret.

Example
  formation-mcp keygen --passphrase
`,
  async run(args) {
    const { values } = parseArgs({
      args,
      options: {
        kind: { type: "string", default: "ed25519" },
        out: { type: "string" },
        passphrase: { type: "boolean", default: false },
      },
    });
    if (!(KEY_KINDS as readonly string[]).includes(values.kind)) {
      throw new FormationError(
        "invalid",
        `--kind: there is no kind ${JSON.stringify(values.kind.slice(0, 40))}.`,
        {
          remedy: `Use one of: ${KEY_KINDS.join(", ")}.`,
        },
      );
    }
    const settings = readRemoteConfiguration({ keyFile: values.out });
    const id = await makeKey(settings, values.kind as KeyKind, values.passphrase);
    process.stdout.write(`${id}\n`);
    process.stderr.write(`The key is in ${settings.keyFile}; keep it to yourself.\n`);
    return 0;
  },
};
