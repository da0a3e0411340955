// What the audit log remembers of a call or a refusal: who, what, on what, how it ended. Never an argument, never a secret.

import type { ErrorCode } from "./errors.ts";

/** One line of the audit log, before it is chained. */
export interface AuditEvent {
  /** Milliseconds since the epoch. */
  at: number;
  /** The account, or null if nobody was recognised. */
  owner: string | null;
  /** What the caller showed: a token's id, never the token. */
  credential: string | null;
  /** The tool's name, or the route's pattern as `GET /api/operations/{id}`. */
  action: string;
  /** The record that it was about: one of our ids or an instance's name, if it is known. */
  target: string | null;
  /** How it ended. `begun` stands before a change is made, so that none is made that the log can't hold. */
  outcome: "begun" | "ok" | ErrorCode;
  /** The caller's address, or null over stdio. */
  address: string | null;
  /** W3C trace id (32 hex digits), or null. */
  trace_id: string | null;
}

/** A line as it is stored: chained to the one before it of the same server process. */
export interface AuditRecord extends AuditEvent {
  /** The chain: one for each run of a server process. */
  chain: string;
  /** 1 for the first of its chain. */
  seq: number;
  /** SHA-256 in hex over the hash before it (64 zeros for the first) and this line's canonical JSON. */
  hash: string;
}

/** A seal: how long a chain was, and its last hash, at some moment. */
export interface AuditSeal {
  chain: string;
  seq: number;
  hash: string;
  at: number;
}
