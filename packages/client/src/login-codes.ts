// Login codes: a browser without a key shows a code, and the holder of a key signs it in another program. The
// statement that is signed is exactly the statement that was shown.

import { FormationError } from "@formation-mcp/contract";
import type { RequestOptions } from "./authorized-wire.ts";
import { isObject } from "./errors.ts";
import { signChallenge } from "./sign-in.ts";
import { type KeySource, signerFor } from "./signer.ts";
import type { Wire } from "./wire.ts";

/** What signing a login code allows, as the server describes it. The name of a client is not verified. */
export interface LoginCode {
  client: {
    id: string;
    name: string | null;
    /** The verified host of the client, if it has one. */
    verifiedHost: string | null;
    /** Whether it runs on the same machine as the browser. */
    local: boolean;
  };
  /** Where the browser is redirected with the result. */
  returnsTo: string;
  scopes: { scope: string; title: string; detail: string }[];
  /** The statement that is signed. */
  statement: string;
  expiresInSeconds: number;
  /** Signs it. The browser continues by itself. */
  approve(options?: RequestOptions): Promise<void>;
}

/**
 * @throws FormationError `not_found` for a code that is wrong or expired, `conflict` for one that was signed
 */
export async function readLoginCode(
  wire: Wire,
  key: KeySource | undefined,
  code: string,
  { signal }: RequestOptions,
  now: () => number,
): Promise<LoginCode> {
  const path = `/auth/codes/${encodeURIComponent(code.trim())}`;
  const response = await wire.send({ method: "GET", path, repeatable: true, signal });
  if (!isObject(response) || !isObject(response["client"])) {
    throw new FormationError("unavailable", `${wire.url} says nothing about the code.`);
  }
  const { client, scopes, expires_in } = response;
  const { id, name, verified_host, returns_to, local } = client as Record<string, unknown>;
  const statement = text(response["statement"]);
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
    statement,
    expiresInSeconds: Number(expires_in),
    approve: (options = {}) => approve(wire, key, path, statement, options, now),
  };
}

async function approve(
  wire: Wire,
  key: KeySource | undefined,
  path: string,
  statement: string,
  { signal }: RequestOptions,
  now: () => number,
): Promise<void> {
  const signer = await signerFor(wire.url, key);
  const challenge = await wire.send({
    method: "POST",
    path: `${path}/challenge`,
    json: { address: signer.id },
    repeatable: true,
    signal,
  });
  const message = isObject(challenge) ? challenge["message"] : undefined;
  const signed = await signChallenge(wire.url, signer, message, now, statement);
  await wire.send({ method: "POST", path, json: { message, ...signed }, repeatable: false, signal });
}

function text(value: unknown): string {
  return typeof value === "string" ? value : "";
}
