// The endpoints below `/oauth`: keys, authorization, registration, tokens, revocation. oidc-provider serves
// only what is named here.

import type { Authority } from "@formation-mcp/auth/authority";
import { FormationError } from "@formation-mcp/contract";
import { addressKey } from "../http/client-address.ts";
import type { RateLimits } from "../http/rate-limits.ts";
import { type Forwarding, isRead, type OAuthRequest } from "./forwarding.ts";
import { notFound, send, sendPublic } from "./node-http.ts";
import type { OAuthAudit } from "./provider/audit.ts";
import { authorizeQuery, formOf, tokenBody } from "./request-rewriting.ts";

export interface EndpointDeps {
  authority: Authority;
  limits: RateLimits;
  forwarding: Forwarding;
  audit: OAuthAudit;
  /** Serves dynamic client registration. */
  register: (request: OAuthRequest) => Promise<void>;
}

/** @throws FormationError `not_found` for any other path or method, `limit`, and what the parts throw. */
export function createEndpoints(deps: EndpointDeps): (request: OAuthRequest) => Promise<void> {
  const { authority, limits, forwarding, register } = deps;
  const { forward } = forwarding;
  return async (request) => {
    const { path, method, response } = request;
    if (path === "/oauth/jwks" && isRead(method)) {
      sendPublic(response, JSON.stringify(await authority.jwks()), "application/jwk-set+json; charset=utf-8");
    } else if (path === "/oauth/authorize" && isRead(method)) {
      // It can make this server fetch a client metadata document from a URL that a stranger chooses.
      await limits.take("signIn", addressKey(request.address));
      await forward(request, { url: `${path}?${authorizeQuery(request.query)}` });
    } else if (/^\/oauth\/authorize\/[\w-]{10,64}$/.test(path) && isRead(method)) {
      await forward(request);
    } else if (path === "/oauth/register" && method === "POST") {
      await register(request);
    } else if (path === "/oauth/token" && method === "POST") {
      await forward(request, { body: tokenBody(request.original, request.body) });
    } else if (path === "/oauth/revoke" && method === "POST") {
      await revoke(deps, request);
    } else if (["/oauth/token", "/oauth/revoke"].includes(path) && method === "OPTIONS") {
      await forward(request);
    } else {
      throw notFound();
    }
  };
}

/**
 * Revokes a self-contained token (JWT) through the authority: whoever holds it may end it (RFC 7009 §2.1).
 * Other tokens go to oidc-provider.
 */
async function revoke({ authority, audit, forwarding }: EndpointDeps, request: OAuthRequest): Promise<void> {
  const token = formOf(request.original, request.body)?.get("token") ?? "";
  if (!/^[\w-]+\.[\w-]+\.[\w-]*$/.test(token)) return await forwarding.forward(request);
  const ended = await authority.revokeBearer(token).catch((error: unknown) => {
    // An invalid token counts as revoked (RFC 7009 §2.2).
    if (FormationError.from(error).retryable) throw error;
    return null;
  });
  if (ended) {
    const { owner, id } = ended;
    const { path, address } = request;
    await audit.record({ action: `POST ${path}`, owner, credential: id, target: null, address });
  }
  send(request.response, 200, "", {});
}
