// The records of the audit log: for each call or refusal who made it, what it was about and how it ended.
// They never hold a call's arguments or a secret.

import type { ErrorCode } from "./errors.ts";

/** One line of the audit log, before it is chained. */
export interface AuditEvent {
  /** Milliseconds since the epoch. */
  at: number;
  /** The account; null if the caller was not authenticated. */
  owner: string | null;
  /** The id of the token that the caller showed, never the token itself. */
  credential: string | null;
  /** The tool's name, or the route's pattern as `GET /api/operations/{id}`. */
  action: string;
  /** The record it was about, as one of our ids or an instance's name; null if unknown. */
  target: string | null;
  /** How it ended. `begun` is written before a change is made: a change that cannot be logged is not made. */
  outcome: "begun" | "ok" | ErrorCode;
  /** The caller's address, or null over stdio. */
  address: string | null;
  /** W3C trace id (32 hex digits), or null. */
  trace_id: string | null;
}

/** A line as it is stored, chained to the line before it of the same server process. */
export interface AuditRecord extends AuditEvent {
  /** The id of the chain. Each run of a server process writes one chain. */
  chain: string;
  /** 1 for the first line of the chain. */
  seq: number;
  /** SHA-256 in hex over the hash before it (64 zeros for the first) and this line's canonical JSON. */
  hash: string;
}

/** A seal: the length of a chain and its last hash at one moment. */
export interface AuditSeal {
  chain: string;
  seq: number;
  hash: string;
  at: number;
}
