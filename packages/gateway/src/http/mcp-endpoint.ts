// `/mcp`: the MCP endpoint for both protocol eras, stateless. What the SDK leaves to whoever mounts it is done here: who
// calls, and the challenge for a scope that a call lacks, before anything of it is dispatched.

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

export interface McpDoor {
  /** Serves a request whose caller is known. */
  serve(c: Context<Env>): Promise<Response>;
  /** Ends what runs. */
  close(): Promise<void>;
}

/** What the gate knows, on its way through the SDK. */
interface Known {
  caller: Authenticated;
  address: string;
  traceId: string;
}

export function createMcpDoor(deps: GatewayDeps): McpDoor {
  const resource = new URL(deps.authority.audience);
  const metadata = resourceMetadataUrl(deps.publicUrl);
  const handler = createMcpHandler(
    createMcpServerFactory({
      control: deps.control,
      version: deps.version,
      principalFor: (context) => knownOf(context).caller.principal,
      hooksFor: (context) => {
        const { address, traceId } = knownOf(context);
        return { address, traceId };
      },
      ...(deps.closing ? { closing: deps.closing } : {}),
    }),
    {
      maxRequestBodySize: LIMITS.mcpBodyBytes,
      // What stands behind a colon may be quoted from the client's message.
      onerror: ({ message }) => deps.logger.log("debug", message.split(":", 1)[0] ?? ""),
    },
  );

  return {
    close: () => handler.close(),
    async serve(c) {
      const caller = c.get("caller");
      const { principal, tokenId, clientId, expiresAt } = caller;
      const known: Known = { caller, address: c.get("address"), traceId: c.get("traceId") };
      const authInfo: AuthInfo = {
        token: tokenId, // the token itself goes no further than the gate
        clientId,
        scopes: [...principal.scopes],
        expiresAt,
        resource,
        resourceMetadataUrl: metadata,
        extra: { known },
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

/** A body's text, or null if it is too large. One that says its length is no longer than that: it is read at once. */
async function bodyOf(request: Request): Promise<string | null> {
  const length = request.headers.get("content-length");
  if (length !== null && /^\d{1,9}$/.test(length)) {
    return Number(length) > LIMITS.mcpBodyBytes ? null : await request.text();
  }
  const read = await readRequestBody(request, LIMITS.mcpBodyBytes);
  return read.tooLarge ? null : read.text;
}

function knownOf({ authInfo }: McpRequestContext): Known {
  return authInfo?.extra?.["known"] as Known;
}

/** The first tool that a message calls without its scope, if more scopes would help: the operator's bound is no matter of tokens. */
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

/** A refusal in the words of JSON-RPC, as the SDK says its own. */
function refuse(status: number, code: number, message: string): Response {
  return Response.json({ jsonrpc: "2.0", id: null, error: { code, message } }, { status });
}
