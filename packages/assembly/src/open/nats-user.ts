// Who a process is at NATS: a key of its own, made where it is used and never sent, and the entry that the operator of NATS
// puts into the configuration for it.

import { existsSync } from "node:fs";
import { FormationError } from "@formation-mcp/contract";
import type { NatsRole } from "@formation-mcp/queue/nats";

/**
 * The entry for the `users` of its account; the key is made if the file is not there.
 * @throws FormationError `invalid` if the file is no key, `unavailable` if it can't be written.
 */
export async function natsUserOf(who: NatsRole, keyFile: string | undefined): Promise<string> {
  if (!keyFile) {
    throw new FormationError("invalid", "Say where the key is to be.", {
      remedy: "Give --key FILE, or set FORMATION_NATS_NKEY.",
      field: "key",
    });
  }
  const [{ createNatsKey, natsKeyOf }, { natsUser }] = await Promise.all([
    import("@formation-mcp/os/nats"),
    import("@formation-mcp/queue/nats"),
  ]);
  return natsUser(existsSync(keyFile) ? natsKeyOf(keyFile) : createNatsKey(keyFile), who);
}
