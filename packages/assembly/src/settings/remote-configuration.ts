// Where a team's server is, and with which key or token this user goes there. Nothing here needs more than Node 20.

import { homedir } from "node:os";
import { isAbsolute, join, resolve } from "node:path";

export interface RemoteConfiguration {
  /** As it was given; null if nobody named a server. */
  url: string | null;
  token: string | null;
  keyFile: string;
  /** Whether somebody named the key file, so that it must be there. */
  keyFileNamed: boolean;
  passphrase: string | null;
  allowHttp: boolean;
  /** Servers that were signed in to, with their sessions. */
  credentialsFile: string;
  /** What holds keys and sessions: no context takes it along. */
  privatePaths: string[];
}

/**
 * Reads the settings of a client.
 * @param overrides what the command line says, stronger than the environment.
 */
export function readRemoteConfiguration(
  overrides: { url?: string | undefined; keyFile?: string | undefined } = {},
  environment: Record<string, string | undefined> = process.env,
): RemoteConfiguration {
  const read = (name: string) => environment[name] || null;
  const home = read("XDG_CONFIG_HOME");
  const directory = join(home && isAbsolute(home) ? home : join(homedir(), ".config"), "formation-mcp");
  const named = overrides.keyFile ?? read("FORMATION_KEY_FILE");
  const keyFile = named === null ? join(directory, "key.json") : resolve(named);
  return {
    url: overrides.url ?? read("FORMATION_URL"),
    token: read("FORMATION_TOKEN"),
    keyFile,
    keyFileNamed: named !== null,
    passphrase: read("FORMATION_KEY_PASSPHRASE"),
    allowHttp: /^(yes|true|1|on)$/.test(read("FORMATION_ALLOW_HTTP") ?? ""),
    credentialsFile: join(directory, "credentials.json"),
    privatePaths: [directory, keyFile],
  };
}
