// The system where a server does the work: the same control, and nothing of this machine but the directories it may read.

import type { Configuration, System } from "@formation-mcp/assembly";
import type { RemoteConfiguration } from "@formation-mcp/assembly/settings";
import type { Scope } from "@formation-mcp/auth";
import type { Logger } from "@formation-mcp/contract";
import { connectQuietly } from "./connect.ts";
import { remoteControl } from "./control.ts";

export interface RemoteSystemOptions {
  remote: RemoteConfiguration;
  configuration: Pick<Configuration, "allowDirs">;
  /** What this program serves, whatever the key may do beyond. */
  scopes: ReadonlySet<Scope>;
  logger: Logger;
}

/** @throws FormationError if the settings give no way to the server. */
export async function remoteSystem(options: RemoteSystemOptions): Promise<System> {
  const { remote, configuration, scopes, logger } = options;
  const client = await connectQuietly(remote, [...scopes]);
  const control = await remoteControl({
    client,
    allowDirs: configuration.allowDirs,
    privatePaths: remote.privatePaths,
    logger,
  });
  return { control, close: async () => {} };
}
