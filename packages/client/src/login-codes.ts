// Login codes: a browser without a key shows one, and whoever has the key signs it elsewhere. What is signed is the
// sentence that was shown, or nothing is signed.

import { FormationError } from "@formation-mcp/contract";
import type { Waiting } from "./authorized-wire.ts";
import { isObject } from "./errors.ts";
import { signFor } from "./session.ts";
import { type KeySource, signerFor } from "./signer.ts";
import type { Wire } from "./wire.ts";

/** What signing a code allows, as the server tells it. A client's name is its own word. */
export interface LoginCode {
  client: {
    id: string;
    name: string | null;
    /** The host that stands for it, if one does. */
    verifiedHost: string | null;
    /** Whether it runs on the machine of the browser. */
    local: boolean;
  };
  /** Where the browser goes with what it gets. */
  returnsTo: string;
  scopes: { scope: string; title: string; detail: string }[];
  /** The sentence that is signed. */
  statement: string;
  expiresInSeconds: number;
  /** Signs it: the browser goes on by itself. */
  approve(options?: Waiting): Promise<void>;
}

/** @throws FormationError `not_found` for a code that is wrong or expired, `conflict` for one that was signed */
export async function loginCode(
  wire: Wire,
  key: KeySource | undefined,
  code: string,
  { signal }: Waiting,
  now: () => number,
): Promise<LoginCode> {
  const path = `/auth/codes/${encodeURIComponent(code.trim())}`;
  const said = await wire.send({ method: "GET", path, repeatable: true, signal });
  if (!isObject(said) || !isObject(said["client"])) {
    throw new FormationError("unavailable", `${wire.url} says nothing about the code.`);
  }
  const { client, scopes, statement, expires_in } = said;
  const { id, name, verified_host, returns_to, local } = client as Record<string, unknown>;
  const shown = text(statement);
  return {
    client: {
      id: text(id),
      name: typeof name === "string" ? name : null,
      verifiedHost: typeof verified_host === "string" ? verified_host : null,
      local: local === true,
    },
    returnsTo: text(returns_to),
    scopes: (Array.isArray(scopes) ? scopes.filter(isObject) : []).map((one) => ({
      scope: text(one["scope"]),
      title: text(one["title"]),
      detail: text(one["detail"]),
    })),
    statement: shown,
    expiresInSeconds: Number(expires_in),
    async approve({ signal: until } = {}) {
      const signer = await signerFor(wire.url, key);
      const asked = await wire.send({
        method: "POST",
        path: `${path}/challenge`,
        json: { address: signer.id },
        repeatable: true,
        signal: until,
      });
      const message = isObject(asked) ? asked["message"] : undefined;
      const signed = await signFor(wire.url, signer, message, now, shown);
      await wire.send({
        method: "POST",
        path,
        json: { message, ...signed },
        repeatable: false,
        signal: until,
      });
    },
  };
}

function text(value: unknown): string {
  return typeof value === "string" ? value : "";
}
