// What every part of the HTTP door works with, and what a request carries once the guards let it in.

import type { Artifacts } from "@formation-mcp/artifacts";
import type { Authenticated, Authority } from "@formation-mcp/auth/authority";
import type { Clock, Counters, Documents, Logger, Usage } from "@formation-mcp/contract";
import type { Audit, Control, Nodes, Quotas } from "@formation-mcp/control";
import type { AuditStore } from "@formation-mcp/operations";
import type { Queue } from "@formation-mcp/queue";
import type { Limits } from "./rate-limits.ts";

export interface GatewayDeps {
  control: Control;
  authority: Authority;
  audit: Audit;
  /** The audit log as admins read it. */
  auditLog: Pick<AuditStore, "page">;
  quotas: Quotas;
  /** What admins see of nodes and do with them. */
  nodes: Nodes;
  /** What an owner has now, as quotas count it. */
  usage: (owner: string) => Promise<Usage>;
  documents: Documents;
  counters: Counters;
  artifacts: Artifacts;
  queue: Queue;
  /** The server's origin as clients know it, without a slash at its end. Tokens are for `${publicUrl}/mcp`. */
  publicUrl: string;
  /** The program's version. */
  version: string;
  clock: Clock;
  logger: Logger;
  random: (bytes: number) => Uint8Array;
  /** How often a caller may ask; without it there is no limit. The gateway fills it in for its parts. */
  limits?: Limits;
  /** Aborts when the server leaves: streams end, and calls that wait answer with what there is. */
  closing?: AbortSignal;
}

/** What handlers read with `c.get(…)`. */
export interface Env {
  Variables: {
    /** Set by the bearer gate. */
    caller: Authenticated;
    /** The client's address: the socket's, or what a trusted proxy says. */
    address: string;
    /** From `traceparent` (https://www.w3.org/TR/trace-context/), or made here. */
    traceId: string;
  };
}
