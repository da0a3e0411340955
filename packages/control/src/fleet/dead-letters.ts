// The messages that no worker could handle, as admins see them. Anyone who may write to the broker may have
// written them, so their texts are cleaned and cut like other untrusted text. This folder knows the nodes:
// where a shipment may run, what admins do with nodes, and what servers do periodically.

import type { Queue } from "@formation-mcp/queue";
import { cleanText } from "../results/untrusted-text.ts";
import { iso } from "../results/views.ts";

/** A dead letter as admins see it; every text is untrusted. */
export interface DeadLetterView {
  subject: string;
  message_id: string;
  body: string;
  reason: string;
  at: string;
}

const SHORT_BYTES = 300;
const LONG_BYTES = 1000;
/** The latest time that a Date can hold (ECMA-262, "Time Values"). */
const MAX_DATE_MS = 8.64e15;

/**
 * Lists dead letters, the newest first.
 * @throws FormationError `unavailable` if the queue can't be reached.
 */
export async function listDeadLetters(
  queue: Pick<Queue, "deadLetters">,
  limit: number,
): Promise<DeadLetterView[]> {
  return (await queue.deadLetters(limit)).map(({ subject, message_id, body, reason, at }) => ({
    subject: cleanText(subject, SHORT_BYTES),
    message_id: cleanText(message_id, SHORT_BYTES),
    body: cleanText(body, LONG_BYTES),
    reason: cleanText(reason, LONG_BYTES),
    at: iso(Math.min(Math.max(at, 0), MAX_DATE_MS)),
  }));
}
