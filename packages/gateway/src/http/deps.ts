// What the parts of the gateway are given, and what Hono's handlers read about a request.

import type { Artifacts } from "@formation-mcp/artifacts";
import type { Authenticated, Authority } from "@formation-mcp/auth/authority";
import type { Clock, Counters, Documents, Logger, Usage } from "@formation-mcp/contract";
import type { Audit, Control, Nodes, Quotas } from "@formation-mcp/control";
import type { AuditStore } from "@formation-mcp/operations";
import type { Queue } from "@formation-mcp/queue";
import type { RateLimits } from "./rate-limits.ts";

export interface GatewayDeps {
  control: Control;
  authority: Authority;
  audit: Audit;
  /** The audit log, for admins to read. */
  auditLog: Pick<AuditStore, "page">;
  quotas: Quotas;
  /** The nodes, for admins. */
  nodes: Nodes;
  /** An owner's current usage, as quotas count it. */
  usage: (owner: string) => Promise<Usage>;
  documents: Documents;
  counters: Counters;
  artifacts: Artifacts;
  queue: Queue;
  /** The server's public origin, without a trailing slash. The audience of tokens is `${publicUrl}/mcp`. */
  publicUrl: string;
  /** The program's version. */
  version: string;
  clock: Clock;
  logger: Logger;
  random: (bytes: number) => Uint8Array;
  /** Rate limits; without it there are none. The gateway fills it in for its parts. */
  limits?: RateLimits;
  /** Aborts when the server shuts down: streams end, and calls that wait return what there is so far. */
  closing?: AbortSignal;
}

/** Hono's variables, which handlers read with `c.get(…)`. */
export interface Env {
  Variables: {
    /** Set by bearer authentication. */
    caller: Authenticated;
    /** The client's address: the socket's, or the one that a trusted proxy reports. */
    address: string;
    /** From the `traceparent` header (W3C Trace Context), or made here. */
    traceId: string;
  };
}
