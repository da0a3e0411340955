// An OAuth client at the HTTP level: it registers itself and sends its user to the authorization server. A
// test can change each parameter.

import { ask, type Reply } from "./wire.ts";

/** The redirect URI of test clients; no server listens there. */
export const BACK = "https://client.example/callback";

/** RFC 7636, appendix B. */
const CHALLENGE = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";

/** Registers a client (RFC 7591); `id` is null if it was refused. */
export async function register(
  url: string,
  metadata: Record<string, unknown>,
): Promise<{ reply: Reply; id: string | null }> {
  const reply = await ask(url, {
    method: "POST",
    path: "/oauth/register",
    headers: [["Content-Type", "application/json"]],
    body: JSON.stringify({ token_endpoint_auth_method: "none", ...metadata }),
  });
  return { reply, id: reply.status === 201 ? JSON.parse(reply.body).client_id : null };
}

/**
 * Starts an authorization as a correct client does, except for these changes; `undefined` omits a parameter.
 */
export function authorize(
  url: string,
  client: string,
  changes: Record<string, string | undefined> = {},
): Promise<Reply> {
  const query = new URLSearchParams({
    response_type: "code",
    client_id: client,
    redirect_uri: BACK,
    code_challenge: CHALLENGE,
    code_challenge_method: "S256",
    state: "s",
    scope: "vm:read",
    resource: `${url}/mcp`,
  });
  for (const [name, value] of Object.entries(changes)) {
    if (value === undefined) query.delete(name);
    else query.set(name, value);
  }
  return ask(url, { path: `/oauth/authorize?${query}` });
}

/** The cookies of an answer, as the next request sends them and as they were set. */
export function cookiesOf(reply: Reply): { sent: string; set: string[] } {
  const set = reply.head
    .split("\r\n")
    .filter((line) => /^set-cookie:/i.test(line))
    .map((line) => line.slice(line.indexOf(":") + 1).trim());
  return { sent: set.map((each) => each.split(";")[0]).join("; "), set };
}
