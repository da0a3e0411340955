// The interface of control: the one call that every door uses.

import type { Principal } from "@formation-mcp/auth";

export interface CallHooks {
  /** For the audit log: the address of the caller, and the W3C trace id of the call. */
  address?: string;
  traceId?: string;
  /** The account that calls, if it acts on records of another owner. The audit log names this account. */
  actor?: string;
  /** Ends the waiting, not the operation. */
  signal?: AbortSignal;
  /** Progress of the operation that the call waits for; `fraction` is 0 to 1 and never falls in a call. */
  onProgress?: (progress: { step: string; message: string; fraction: number | null }) => void;
}

export interface Control {
  /** Whether a principal may use a tool, for listings. It does not read the store. */
  offers(principal: Principal, tool: string): boolean;
  /**
   * Calls a tool for a principal. `input` is checked against the input schema of the tool; the result fits
   * its output schema.
   * @throws FormationError only: `not_found` for an unknown tool and for a record of another owner.
   */
  call(
    principal: Principal,
    tool: string,
    input: unknown,
    hooks?: CallHooks,
  ): Promise<Record<string, unknown>>;
}
