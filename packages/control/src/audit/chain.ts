// A line of the audit log before it is stored: its texts are restricted to safe characters, and its hash
// chains it to the line before.

import { hash } from "node:crypto";
import type { AuditEvent, AuditRecord } from "@formation-mcp/contract";

/** What a door (HTTP, stdio) or control records; the log adds the time. */
export type AuditEntry = Omit<AuditEvent, "at">;

/** The hash that the first line of a chain follows. */
export const GENESIS_HASH = "0".repeat(64);

/** The last line of a chain. */
export interface ChainHead {
  seq: number;
  hash: string;
}

/**
 * The hash of a line: SHA-256 in hex over the previous hash, a line feed, and the JSON of the line with its
 * keys in alphabetical order. The JSON includes the chain and the sequence number, so that a line fits in one
 * place only.
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

/** Chains events to the lines before `head` and returns them as records. */
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

/** Copies the known fields of an event. Texts that a caller could have made up are replaced or dropped. */
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

/** Printable ASCII of at most 200 characters: every database returns it unchanged. */
function printableAscii(text: string | null): string | null {
  return text === null ? null : text.slice(0, 200).replace(/[^\x20-\x7e]/g, "?");
}
