// What a REST route is: one value from which the router, the OpenAPI document, the reference page and the matrix of
// tests are made, so that no route can be served that is not described and checked.

import type { Principal, Scope } from "@formation-mcp/auth";
import type { Authenticated } from "@formation-mcp/auth/authority";
import type { Context } from "hono";
import type { z } from "zod";
import type { Env, GatewayDeps } from "../http/deps.ts";

type Method = "GET" | "POST" | "PUT" | "DELETE";

/** Who may use a route: everybody, whoever shows a valid token, or a token with this scope (`admin` has every other). */
export type Access = "public" | "any" | Scope;

/** What a test needs to know of a route. */
export interface RestRoute {
  readonly method: Method;
  /** From the root, with names in braces: `/api/operations/{id}`. */
  readonly path: `/api${string}`;
  readonly access: Access;
  /** What it answers with when all is well: the envelope, a stream of events, a page, or a document of its own. */
  readonly answer: "envelope" | "events" | "page" | "document";
}

export interface Route extends RestRoute {
  readonly tag: "auth" | "tools" | "operations" | "contexts" | "instances" | "builds" | "admin" | "about";
  /** Its `operationId`. */
  readonly id: string;
  readonly summary: string;
  readonly description?: string;
  readonly query?: z.ZodObject;
  /** The JSON body; `bytes` for one that is no JSON. */
  readonly body?: z.ZodType | "bytes";
  /** What stands in `data` of the envelope. */
  readonly data?: z.ZodType;
  /** Codes of errors beside those that every route has. */
  readonly errors?: readonly (400 | 404 | 409 | 413)[];
  /**
   * Who tells the audit log of its use, if not the door itself: `control`, which is called for it, or nobody, for what
   * is no secret and changes nothing.
   */
  readonly audited?: "by control" | "not at all";
  readonly handle: (exchange: Exchange) => Promise<Answer | Response>;
}

/** What goes into the envelope. */
export interface Answer {
  data: unknown;
  /** For a person; null when all is said by `data`. */
  message?: string | null;
}

/** One request on its way through a route. */
export interface Exchange<Q = unknown, B = unknown> {
  readonly deps: GatewayDeps;
  readonly c: Context<Env>;
  readonly params: Readonly<Record<string, string>>;
  readonly query: Q;
  readonly body: B;
  /** Who calls. @throws FormationError `unauthenticated` on a public route. */
  readonly caller: Authenticated;
  /** Calls a tool as the caller, or as the principal given; the call is audited by control. */
  readonly tool: (
    name: string,
    input: Record<string, unknown>,
    hooks?: { signal?: AbortSignal; onProgress?: (progress: Progress) => void; as?: Principal },
  ) => Promise<Record<string, unknown>>;
  /** What the audit log is told beside what everybody knows. */
  readonly note: { owner?: string; target?: string };
}

interface Progress {
  step: string;
  message: string;
  fraction: number | null;
}

type Parsed<S> = S extends z.ZodType ? z.output<S> : undefined;

/** Makes a route; its handler sees the query and the body as their schemas leave them. */
export function route<
  Q extends z.ZodObject | undefined = undefined,
  B extends z.ZodType | "bytes" | undefined = undefined,
>(
  spec: Omit<Route, "query" | "body" | "handle" | "answer"> & {
    answer?: Route["answer"];
    query?: Q;
    body?: B;
    handle: (exchange: Exchange<Parsed<Q>, Parsed<B>>) => Promise<Answer | Response>;
  },
): Route {
  return { answer: "envelope", ...spec } as unknown as Route;
}
