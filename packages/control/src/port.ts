// The one call that every door goes through.

import type { Principal } from "@formation-mcp/auth";

export interface CallHooks {
  /** Ends the waiting, never the operation. */
  signal?: AbortSignal;
  /** Progress of the operation that the call waits for; `fraction` is 0 to 1 and never falls within a call. */
  onProgress?: (progress: { step: string; message: string; fraction: number | null }) => void;
}

export interface Control {
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
