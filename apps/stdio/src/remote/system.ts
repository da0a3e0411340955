// The system where a server runs the tools. Of this machine it uses only the directories that it may read.

import type { Configuration, System } from "@formation-mcp/assembly";
import type { RemoteConfiguration } from "@formation-mcp/assembly/settings";
import type { Scope } from "@formation-mcp/auth";
import type { Logger } from "@formation-mcp/contract";
import { connectWithoutTerminal } from "./connect.ts";
import { remoteControl } from "./control.ts";

export interface RemoteSystemOptions {
  remote: RemoteConfiguration;
  configuration: Pick<Configuration, "allowDirs">;
  /** The scopes that this program serves; the key may have more. */
  scopes: ReadonlySet<Scope>;
  logger: Logger;
}

/** @throws FormationError if the settings do not allow to sign in to the server. */
export async function remoteSystem(options: RemoteSystemOptions): Promise<System> {
  const { remote, configuration, scopes, logger } = options;
  const client = await connectWithoutTerminal(remote, [...scopes]);
  const control = await remoteControl({
    client,
    allowDirs: configuration.allowDirs,
    privatePaths: remote.privatePaths,
    logger,
  });
  return { control, close: async () => {} };
}
