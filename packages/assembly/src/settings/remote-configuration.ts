// The configuration of a client of a server. Works on Node 20.

import { join } from "node:path";
import { parseSection, withoutEmpty, wrongSettings } from "./read.ts";
import { configDirectory, REMOTE, type RemoteSettings } from "./remote.ts";
import type { Environment } from "./setting.ts";

export interface RemoteConfiguration extends RemoteSettings {
  /** Whether the command line or the environment names the key file; then it must exist. */
  keyFileNamed: boolean;
  /** Servers that were signed in to, with their sessions. */
  credentialsFile: string;
  /** What holds keys and sessions; no context may include it. */
  privatePaths: string[];
}

/**
 * Reads the settings of a client of a server.
 * @param overrides what the command line says; it overrides the environment.
 */
export function readRemoteConfiguration(
  overrides: { url?: string | undefined; keyFile?: string | undefined } = {},
  environment: Environment = process.env,
): RemoteConfiguration {
  const { url, keyFile } = REMOTE.settings;
  const given = {
    environment: withoutEmpty({
      ...environment,
      ...(overrides.url === undefined ? {} : { [url.name]: overrides.url }),
      ...(overrides.keyFile === undefined ? {} : { [keyFile.name]: overrides.keyFile }),
    }),
    problems: [],
  };
  const remote = parseSection(REMOTE, given);
  if (!remote) throw wrongSettings(given.problems);
  const directory = configDirectory(environment);
  return {
    ...remote,
    keyFileNamed: given.environment[keyFile.name] !== undefined,
    credentialsFile: join(directory, "credentials.json"),
    privatePaths: [directory, remote.keyFile],
  };
}
