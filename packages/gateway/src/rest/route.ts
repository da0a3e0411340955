// A REST route as a value. The router, the OpenAPI document, the reference page and the tests' authorization
// matrix are made from it, so that every route that is served is also described and checked.

import type { Principal, Scope } from "@formation-mcp/auth";
import type { Authenticated } from "@formation-mcp/auth/authority";
import type { Context } from "hono";
import type { z } from "zod";
import type { Env, GatewayDeps } from "../http/deps.ts";

type Method = "GET" | "POST" | "PUT" | "DELETE";

/**
 * Who may use a route: everyone, any valid token, or a token with this scope (`admin` includes every other).
 */
export type Access = "public" | "any" | Scope;

/** The part of a route that tests need. */
export interface RestRoute {
  readonly method: Method;
  /** From the root, with parameters in braces: `/api/operations/{id}`. */
  readonly path: `/api${string}`;
  readonly access: Access;
  /** What a success is: the envelope, an event stream, an HTML page, or a JSON document of its own. */
  readonly answer: "envelope" | "events" | "page" | "document";
}

export interface Route extends RestRoute {
  readonly tag: "auth" | "tools" | "operations" | "contexts" | "instances" | "builds" | "admin" | "about";
  /** Its `operationId`. */
  readonly id: string;
  readonly summary: string;
  readonly description?: string;
  readonly query?: z.ZodObject;
  /** The schema of the JSON body, or `bytes` for another body. */
  readonly body?: z.ZodType | "bytes";
  /** The schema of the envelope's `data`. */
  readonly data?: z.ZodType;
  /** Status codes of errors beside those that every route has. */
  readonly errors?: readonly (400 | 404 | 409 | 413)[];
  /**
   * How its use is audited, if not by the route handler: by control, which the route calls, or not at all,
   * because the route is public and changes nothing.
   */
  readonly audited?: "by control" | "not at all";
  readonly handle: (exchange: Exchange) => Promise<Reply | Response>;
}

/** What goes into the envelope. */
export interface Reply {
  data: unknown;
  /** For a person; null if `data` says it all. */
  message?: string | null;
}

/** One request as a handler sees it. */
export interface Exchange<Q = unknown, B = unknown> {
  readonly deps: GatewayDeps;
  readonly c: Context<Env>;
  readonly params: Readonly<Record<string, string>>;
  readonly query: Q;
  readonly body: B;
  /** The caller. Reading it on a public route throws FormationError `unauthenticated`. */
  readonly caller: Authenticated;
  /** Calls a tool as the caller, or as the principal `as`. Control audits the call. */
  readonly tool: (
    name: string,
    input: Record<string, unknown>,
    hooks?: { signal?: AbortSignal; onProgress?: (progress: Progress) => void; as?: Principal },
  ) => Promise<Record<string, unknown>>;
  /** Further fields for the audit log. */
  readonly note: { owner?: string; target?: string };
}

interface Progress {
  step: string;
  message: string;
  fraction: number | null;
}

type Parsed<S> = S extends z.ZodType ? z.output<S> : undefined;

/** Makes a route. Its handler gets the query and the body as their schemas return them. */
export function route<
  Q extends z.ZodObject | undefined = undefined,
  B extends z.ZodType | "bytes" | undefined = undefined,
>(
  spec: Omit<Route, "query" | "body" | "handle" | "answer"> & {
    answer?: Route["answer"];
    query?: Q;
    body?: B;
    handle: (exchange: Exchange<Parsed<Q>, Parsed<B>>) => Promise<Reply | Response>;
  },
): Route {
  return { answer: "envelope", ...spec } as unknown as Route;
}
