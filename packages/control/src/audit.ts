// The audit log: one hash chain for each run of a server process. Refusals and writes are stored before the reply goes
// out; reads are gathered and stored in batches.

import type { AuditEvent } from "@formation-mcp/contract";

/** What a door or control tells the log; the time is filled in. */
export type Audited = Omit<AuditEvent, "at">;

export interface Audit {
  /** Stores a line; with `wait` the promise resolves once it is stored, else it may be stored up to a second later. */
  record(event: Audited, options: { wait: boolean }): Promise<void>;
  /** Stores what is gathered and seals the chain. */
  close(): Promise<void>;
}
