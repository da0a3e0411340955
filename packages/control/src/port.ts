// The one call that every door goes through.

import type { Principal } from "@formation-mcp/auth";

export interface CallHooks {
  /** For the audit log: where the call came from, and its W3C trace id. */
  address?: string;
  traceId?: string;
  /** The account that asks, where it asks for another's records: the one that the audit log names. */
  actor?: string;
  /** Ends the waiting, never the operation. */
  signal?: AbortSignal;
  /** Progress of the operation that the call waits for; `fraction` is 0 to 1 and never falls within a call. */
  onProgress?: (progress: { step: string; message: string; fraction: number | null }) => void;
}

export interface Control {
  /** Whether a principal may use a tool at all: what listings show. It says so without a look into the store. */
  offers(principal: Principal, tool: string): boolean;
  /**
   * Does what a tool does, for a principal. `input` is checked against the tool's schema; the result fits its output
   * schema.
   * @throws FormationError alone: `not_found` for an unknown tool and for somebody else's record.
   */
  call(
    principal: Principal,
    tool: string,
    input: unknown,
    hooks?: CallHooks,
  ): Promise<Record<string, unknown>>;
}
