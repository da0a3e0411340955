// What a line of the audit log is before it is stored: cleaned to what may stand there, and chained to the one before it.

import { hash } from "node:crypto";
import type { AuditEvent, AuditRecord } from "@formation-mcp/contract";

/** What a door or control tells the log; the time is filled in. */
export type AuditEntry = Omit<AuditEvent, "at">;

/** What the first line of a chain follows. */
export const GENESIS_HASH = "0".repeat(64);

/** Where a chain ends. */
export interface ChainHead {
  seq: number;
  hash: string;
}

/**
 * The hash of a line: SHA-256 in hex over the hash before it, a line feed, and the line's JSON with its keys in order,
 * its chain and its number among them, so that no line can stand anywhere else.
 */
export function lineHash(before: string, line: Omit<AuditRecord, "hash">): string {
  const { action, address, at, chain, credential, outcome, owner, seq, target, trace_id } = line;
  const text = JSON.stringify({
    action,
    address,
    at,
    chain,
    credential,
    outcome,
    owner,
    seq,
    target,
    trace_id,
  });
  return hash("sha256", `${before}\n${text}`);
}

/** The events as lines that follow a head. */
export function chainEvents(chain: string, head: ChainHead, events: readonly AuditEvent[]): AuditRecord[] {
  let { seq, hash: before } = head;
  return events.map((event) => {
    seq += 1;
    const line = { ...event, chain, seq };
    before = lineHash(before, line);
    return { ...line, hash: before };
  });
}

const TARGET = /^[A-Za-z0-9][A-Za-z0-9:._-]{0,99}$/;
const ADDRESS = /^[0-9A-Za-z:.%-]{2,64}$/;
const TRACE = /^[0-9a-f]{32}$/;

/** An event with nothing beside its fields, and nothing in them that a caller could have made up as a text. */
export function cleanEvent(event: AuditEntry, at: number): AuditEvent {
  const { owner, credential, action, target, outcome, address, trace_id } = event;
  return {
    at,
    owner: printableAscii(owner),
    credential: printableAscii(credential),
    action: printableAscii(action) ?? "",
    target: matching(TARGET, target),
    outcome,
    address: matching(ADDRESS, address),
    trace_id: matching(TRACE, trace_id),
  };
}

function matching(pattern: RegExp, text: string | null): string | null {
  return text !== null && pattern.test(text) ? text : null;
}

/** Printable ASCII, which every database gives back as it was. */
function printableAscii(text: string | null): string | null {
  return text === null ? null : text.slice(0, 200).replace(/[^\x20-\x7e]/g, "?");
}
