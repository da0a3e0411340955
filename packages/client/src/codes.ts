// Login codes: a browser without a key shows one, and whoever has the key signs it elsewhere.

import { FormationError } from "@formation-mcp/contract";
import type { Waiting } from "./asker.ts";
import { isObject } from "./errors.ts";
import { scopesOf, signFor } from "./session.ts";
import { type KeySource, signerFor } from "./signer.ts";
import type { Wire } from "./wire.ts";

/** What signing a code allows, as the server tells it. The client's words about itself are a stranger's. */
export interface LoginCode {
  client: string;
  /** Where the browser goes afterwards; null where the server does not say. */
  redirectHost: string | null;
  scopes: string[];
  /** Signs it: the browser goes on by itself. */
  approve(options?: Waiting): Promise<void>;
}

/** @throws FormationError `not_found` for a code that is wrong, used or expired */
export async function loginCodes(
  wire: Wire,
  key: KeySource | undefined,
  code: string,
  { signal }: Waiting,
  now: () => number,
): Promise<LoginCode> {
  const path = `/auth/codes/${encodeURIComponent(code.trim())}`;
  const said = await wire.send({ method: "GET", path, repeatable: true, signal });
  if (!isObject(said)) throw new FormationError("not_found", "There is no such login code.");
  const { client, client_name, client_id, redirect_host, scopes, scope } = said;
  const name = isObject(client) ? (client["name"] ?? client["id"]) : (client ?? client_name ?? client_id);
  return {
    client: String(name ?? "a client without a name"),
    redirectHost: typeof redirect_host === "string" ? redirect_host : null,
    scopes: scopesOf(scopes ?? scope),
    async approve(options = {}) {
      const signer = await signerFor(wire.url, key);
      const { signal } = options;
      const asked = await wire.send({
        method: "POST",
        path: `${path}/challenge`,
        json: { address: signer.id },
        repeatable: true,
        signal,
      });
      const message = isObject(asked) ? asked["message"] : undefined;
      const json = { message, ...(await signFor(wire.url, signer, message, now)) };
      await wire.send({ method: "POST", path, json, repeatable: false, signal });
    },
  };
}
