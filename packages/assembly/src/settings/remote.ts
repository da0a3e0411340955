// The settings of a client of a server: where the server is, and the key or token that signs in there. Works
// on Node 20.

import { homedir } from "node:os";
import { isAbsolute, join } from "node:path";
import { z } from "zod";
import { computed, optional, path, text, withDefault } from "./kinds.ts";
import type { Environment, Section, Values } from "./setting.ts";

const settings = {
  url: {
    name: "FORMATION_URL",
    help: "a server to use instead of this machine, https://vm.example.org",
    ...optional(text),
  },
  keyFile: {
    name: "FORMATION_KEY_FILE",
    help: "the key that signs in there",
    ...computed(path, "$XDG_CONFIG_HOME/formation-mcp/key.json", (environment) =>
      join(configDirectory(environment), "key.json"),
    ),
  },
  passphrase: {
    name: "FORMATION_KEY_PASSPHRASE",
    help: "opens the key file if it is sealed",
    ...optional(text, "asked for on the terminal"),
  },
  token: {
    name: "FORMATION_TOKEN",
    help: "an API token of the server, instead of a key",
    ...optional(text),
  },
  allowHttp: {
    name: "FORMATION_ALLOW_HTTP",
    help: "yes: send tokens over plain HTTP beyond this machine too",
    ...withDefault(() => z.string().transform((given) => /^(yes|true|1|on)$/.test(given)), false, "no"),
  },
};

export const REMOTE = {
  title: "a server's client",
  programs: ["formation-mcp"],
  inFile: false,
  settings,
} as const satisfies Section;

export type RemoteSettings = Values<typeof settings>;

/** Where this user's keys and sessions are. */
export function configDirectory({ XDG_CONFIG_HOME: home }: Environment): string {
  return join(home && isAbsolute(home) ? home : join(homedir(), ".config"), "formation-mcp");
}
