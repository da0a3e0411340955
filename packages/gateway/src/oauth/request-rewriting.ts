// Rewrites requests before oidc-provider sees them: adds what real clients leave out, removes what no client
// may ask for.

import type { IncomingMessage } from "node:http";
import { CHALLENGE_GRANT, OWN_CLIENT } from "./provider/clients.ts";
import { DEFAULT_SCOPES, knownScopes } from "./provider/scopes.ts";

/**
 * The query of an authorization request: only known scopes, all but `admin` if it names none, and one
 * response mode.
 */
export function authorizeQuery(query: string): string {
  const params = new URLSearchParams(query);
  if (params.getAll("scope").length <= 1) {
    const known = knownScopes(params.get("scope"));
    params.set("scope", (known.length > 0 ? known : DEFAULT_SCOPES).join(" "));
  }
  // Agents do not use this endpoint. The answer must not reveal whether a key is known, so the name is
  // removed.
  if (params.getAll("client_id").some((id) => id.startsWith("key:"))) params.delete("client_id");
  // `fragment` and `form_post` belong to flows that this server does not have; an unknown mode is refused by
  // redirect.
  if (!params.has("response_mode")) params.set("response_mode", "query");
  else if (params.get("response_mode") !== "query") params.set("response_mode", "none");
  return params.toString();
}

/** The body of a token request: agents that name no client or no scope get their defaults. */
export function tokenBody(request: IncomingMessage, body: Buffer): Buffer {
  const form = formOf(request, body);
  if (!form) return body;
  const grant = form.get("grant_type");
  if (grant === CHALLENGE_GRANT && !form.has("client_id")) form.set("client_id", OWN_CLIENT);
  if (grant === "client_credentials" && !form.get("scope"))
    form.set("scope", [...DEFAULT_SCOPES, "admin"].join(" "));
  return Buffer.from(form.toString());
}

/** The fields of a form, or null if the body is not a form. */
export function formOf({ headers }: IncomingMessage, body: Buffer): URLSearchParams | null {
  const type = headers["content-type"]?.split(";")[0]?.trim().toLowerCase();
  return type === "application/x-www-form-urlencoded" ? new URLSearchParams(body.toString("utf8")) : null;
}
