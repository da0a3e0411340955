// The command `login`: signs in to a server, or signs the login code that a browser shows.

import { parseArgs } from "node:util";
import { readRemoteConfiguration } from "@formation-mcp/assembly/settings";
import { FormationError } from "@formation-mcp/contract";
import type { Command } from "../command.ts";
import { printable } from "../printable.ts";
import { connect } from "../remote/connect.ts";
import { askYes, isInteractive } from "../remote/terminal.ts";

export const login: Command = {
  help: `formation-mcp login: sign in with a key.

Usage
  formation-mcp login --server URL [--bootstrap TOKEN]   sign in, and remember the server
  formation-mcp login CODE [--server URL] [--yes]        sign a browser's login code

  --server URL         the server (default: FORMATION_URL, else the one signed in to last)
  --bootstrap TOKEN    make this key the admin of a fresh server: the token is in its first start's output
  --key FILE           the key (default: FORMATION_KEY_FILE, else $XDG_CONFIG_HOME/formation-mcp/key.json)
  --yes                sign the code without asking

Examples
  formation-mcp login --server https://vm.example.org
  formation-mcp login WDJB-MJHT
`,
  async run(args) {
    const { values, positionals } = parseArgs({
      args,
      allowPositionals: true,
      options: {
        server: { type: "string" },
        bootstrap: { type: "string" },
        key: { type: "string" },
        yes: { type: "boolean", default: false },
      },
    });
    const [code, ...others] = positionals;
    if (others.length > 0 || (code !== undefined && values.bootstrap !== undefined)) {
      throw new FormationError("invalid", "login takes one code, or a server.", {
        remedy: "See: formation-mcp login --help",
      });
    }
    const settings = readRemoteConfiguration({ url: values.server, keyFile: values.key });
    if (code !== undefined) return signCode(settings, code, values.yes);
    const client = connect(settings, true);
    // An earlier session is not used, because the key must sign.
    if (values.bootstrap === undefined) await client.signIn();
    else await client.bootstrap(values.bootstrap);
    const { owner, scopes } = await client.whoami();
    process.stderr.write(
      `Signed in to ${client.url} as ${owner}, with ${scopes.join(" ") || "no scopes"}.\n`,
    );
    return 0;
  },
};

async function signCode(
  settings: ReturnType<typeof readRemoteConfiguration>,
  code: string,
  yes: boolean,
): Promise<number> {
  const client = connect(settings, true);
  const asked = await client.loginCode(code);
  const { name, id, verifiedHost, local } = asked.client;
  // The server writes for the browser's page, and this may be another computer.
  const place = local ? asked.returnsTo.replace(/^this computer/, "the browser's computer") : asked.returnsTo;
  process.stderr.write(
    [
      `A browser asks to be signed in to ${client.url} with your key.`,
      `  app       ${name === null ? printable(id) : `calls itself ${printable(name)}`}`,
      ...(verifiedHost === null ? [] : [`  vouched   by ${printable(verifiedHost)}`]),
      `  leads to  ${printable(place)}`,
      ...asked.scopes.map(({ scope, title }) => `  may       ${printable(title)} (${printable(scope)})`),
      "",
    ].join("\n"),
  );
  if (!yes && !isInteractive()) {
    throw new FormationError("invalid", "There is no terminal to ask on.", {
      remedy: "Add --yes if it is what you started yourself.",
    });
  }
  if (!yes && !(await askYes("Did you start this, and is the code the one your browser shows? Sign it?"))) {
    process.stderr.write("Nothing was signed.\n");
    return 1;
  }
  await asked.approve();
  process.stderr.write("Signed. Go on in the browser.\n");
  return 0;
}
