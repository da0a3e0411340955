// `/mcp`: the stateless MCP endpoint for both protocol eras. The SDK leaves two things to its user, and they
// are done here: who calls, and the challenge for a scope that a call lacks, before the call is dispatched.

import type { Principal } from "@formation-mcp/auth";
import type { Authenticated } from "@formation-mcp/auth/authority";
import { LIMITS } from "@formation-mcp/contract";
import { createMcpServerFactory } from "@formation-mcp/mcp";
import { LISTING } from "@formation-mcp/tools/listing";
import {
  type AuthInfo,
  createMcpHandler,
  type McpRequestContext,
  readRequestBody,
} from "@modelcontextprotocol/server";
import type { Context } from "hono";
import { refuseScope } from "./bearer-auth.ts";
import type { Env, GatewayDeps } from "./deps.ts";
import { resourceMetadataUrl } from "./www-authenticate.ts";

const SCOPES = new Map(LISTING.map(({ name, scope }) => [name, scope]));
const EVERY_SCOPE = new Set([...SCOPES.values()]);

export interface McpEndpoint {
  /** Serves a request behind bearer authentication. */
  serve(c: Context<Env>): Promise<Response>;
  /** Ends the requests that run. */
  close(): Promise<void>;
}

/** Who calls and from where; it goes through the SDK in `AuthInfo.extra`. */
interface CallOrigin {
  caller: Authenticated;
  address: string;
  traceId: string;
}

export function createMcpEndpoint(deps: GatewayDeps): McpEndpoint {
  const resource = new URL(deps.authority.audience);
  const metadata = resourceMetadataUrl(deps.publicUrl);
  const handler = createMcpHandler(
    createMcpServerFactory({
      control: deps.control,
      version: deps.version,
      principalFor: (context) => callOriginOf(context).caller.principal,
      hooksFor: (context) => {
        const { address, traceId } = callOriginOf(context);
        return { address, traceId };
      },
      ...(deps.closing ? { closing: deps.closing } : {}),
    }),
    {
      maxRequestBodySize: LIMITS.mcpBodyBytes,
      // The text after a colon may be quoted from the client's message.
      onerror: ({ message }) => deps.logger.log("debug", message.split(":", 1)[0] ?? ""),
    },
  );

  return {
    close: () => handler.close(),
    async serve(c) {
      const caller = c.get("caller");
      const { principal, clientId, expiresAt } = caller;
      const origin: CallOrigin = { caller, address: c.get("address"), traceId: c.get("traceId") };
      const authInfo: AuthInfo = {
        token: principal.tokenId, // never the token itself: it goes no further than bearer authentication
        clientId,
        scopes: [...principal.scopes],
        expiresAt,
        resource,
        resourceMetadataUrl: metadata,
        extra: { origin },
      };
      if (c.req.method !== "POST") return handler.fetch(c.req.raw, { authInfo });
      const type = c.req.header("content-type")?.split(";")[0]?.trim().toLowerCase();
      if (type !== "application/json")
        return refuse(415, -32_000, "Unsupported Media Type: send application/json.");
      const body = await bodyOf(c.req.raw);
      if (body === null) return refuse(413, -32_600, `The body is larger than ${LIMITS.mcpBodyBytes} bytes.`);
      let message: unknown;
      try {
        message = JSON.parse(body);
      } catch {
        return refuse(400, -32_700, "The body is not JSON.");
      }
      const lacking = lackedScope(deps, principal, message);
      if (lacking) return refuseScope(deps, c, lacking.scope, lacking.tool);
      return handler.fetch(c.req.raw, { authInfo, parsedBody: message });
    },
  };
}

/**
 * The body's text, or null if it is too large. A Content-Length is the exact length, so such a body is read
 * at once.
 */
async function bodyOf(request: Request): Promise<string | null> {
  const length = request.headers.get("content-length");
  if (length !== null && /^\d{1,9}$/.test(length)) {
    return Number(length) > LIMITS.mcpBodyBytes ? null : await request.text();
  }
  const read = await readRequestBody(request, LIMITS.mcpBodyBytes);
  return read.tooLarge ? null : read.text;
}

function callOriginOf({ authInfo }: McpRequestContext): CallOrigin {
  return authInfo?.extra?.["origin"] as CallOrigin;
}

/**
 * The first tool that the message calls without having its scope, if a token with more scopes could call it.
 * A tool that the operator denies is not one of these.
 */
function lackedScope(
  { control }: GatewayDeps,
  principal: Principal,
  message: unknown,
): { tool: string; scope: string } | null {
  for (const each of Array.isArray(message) ? message.slice(0, 100) : [message]) {
    const { method, params } = (each ?? {}) as { method?: unknown; params?: { name?: unknown } | null };
    if (method !== "tools/call" || typeof params?.name !== "string") continue;
    const tool = params.name;
    const scope = SCOPES.get(tool);
    if (!scope || control.offers(principal, tool)) continue;
    if (control.offers({ ...principal, scopes: EVERY_SCOPE }, tool)) return { tool, scope };
  }
  return null;
}

/** A JSON-RPC error, in the same form as the SDK's own. */
function refuse(status: number, code: number, message: string): Response {
  return Response.json({ jsonrpc: "2.0", id: null, error: { code, message } }, { status });
}
