// The entry of a process in the configuration of NATS. Its key is made on the machine that uses it and never
// sent; the operator of NATS puts the entry, which has the public key, into the configuration.

import { existsSync } from "node:fs";
import { FormationError } from "@formation-mcp/contract";
import type { NatsRole } from "@formation-mcp/queue/nats";
import { openLayout } from "../open/layout.ts";
import { nodeId } from "../open/node.ts";
import type { SettingOverrides } from "../settings/configuration.ts";
import type { Environment } from "../settings/setting.ts";
import { SHARED } from "../settings/shared.ts";
import { readWorkerConfiguration } from "../settings/worker-configuration.ts";

const KEY_FILE = SHARED.settings.nats.nkey.name;

/**
 * The entry of the servers.
 * @param key where their key is; default: the file that FORMATION_NATS_NKEY names.
 */
export function serverNatsUser(
  key: string | undefined,
  environment: Environment = process.env,
): Promise<string> {
  return natsUserOf({ role: "server" }, key ?? environment[KEY_FILE]);
}

/**
 * The entry of this node's worker, with the least rights; makes the node's id if there is none.
 * @param key where its key is; default: the file that FORMATION_NATS_NKEY names, which need not exist yet.
 */
export async function workerNatsUser(
  overrides: SettingOverrides,
  key: string | undefined,
  environment: Environment = process.env,
): Promise<string> {
  // The check of settings refuses a key file that does not exist.
  const { stateDir } = readWorkerConfiguration(overrides, { ...environment, [KEY_FILE]: undefined });
  return natsUserOf({ role: "worker", node: nodeId(openLayout(stateDir)) }, key ?? environment[KEY_FILE]);
}

/**
 * The entry for the `users` of an account; makes the key if the file does not exist.
 * @throws FormationError `invalid` if the file is no key, `unavailable` if it can't be written.
 */
async function natsUserOf(role: NatsRole, keyFile: string | undefined): Promise<string> {
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
  return natsUser(existsSync(keyFile) ? natsKeyOf(keyFile) : createNatsKey(keyFile), role);
}
