// Writes dead letters to NATS and reads them back. A compromised worker may write anything, so letters are
// checked as untrusted text.

import { JetStreamApiCodes, JetStreamApiError, type JetStreamManager } from "@nats-io/jetstream";
import type { DeadLetter } from "../port.ts";
import { MAX_DEAD_BODY_CHARACTERS } from "../rules.ts";
import type { Delivery } from "./delivery.ts";
import { DEAD_PREFIX, DEAD_STREAM } from "./streams.ts";

/** How many letters are requested at a time. */
const BATCH_LETTERS = 32;
const MAX_LETTER_ID_CHARACTERS = 200;

type StoreMessage = (subject: string, messageId: string, body: string, stream: string) => Promise<void>;

/** Stores a letter once, however often its message is given up. */
export async function storeLetter(
  delivery: Delivery,
  reason: string,
  at: number,
  store: StoreMessage,
): Promise<void> {
  const letter: DeadLetter = {
    subject: delivery.subject,
    message_id: delivery.messageId.slice(0, MAX_LETTER_ID_CHARACTERS),
    body: delivery.body.slice(0, MAX_DEAD_BODY_CHARACTERS),
    reason: reason.slice(0, MAX_DEAD_BODY_CHARACTERS),
    at,
  };
  const subject = `${DEAD_PREFIX}.${delivery.subject}`;
  await store(subject, `dead-${delivery.key}`, JSON.stringify(letter), DEAD_STREAM);
}

/** The newest letters first. Throws the NATS library's errors. */
export async function newestLetters(manager: JetStreamManager, limit: number): Promise<DeadLetter[]> {
  const { state } = await manager.streams.info(DEAD_STREAM);
  const letters: DeadLetter[] = [];
  for (
    let from = state.last_seq;
    from >= state.first_seq && from > 0 && letters.length < limit;
    from -= BATCH_LETTERS
  ) {
    const size = Math.min(BATCH_LETTERS, from - state.first_seq + 1, limit - letters.length);
    const batch = await Promise.all(
      Array.from({ length: size }, (_, index) => letterAt(manager, from - index)),
    );
    letters.push(...batch.filter((letter) => letter !== undefined));
    // A smaller batch was requested, so the next batch follows it.
    from += BATCH_LETTERS - size;
  }
  return letters;
}

async function letterAt(manager: JetStreamManager, seq: number): Promise<DeadLetter | undefined> {
  try {
    const stored = await manager.streams.getMessage(DEAD_STREAM, { seq });
    return stored ? readLetter(stored.string()) : undefined;
  } catch (error) {
    if (error instanceof JetStreamApiError && error.code === JetStreamApiCodes.NoMessageFound)
      return undefined;
    throw error;
  }
}

function readLetter(text: string): DeadLetter | undefined {
  try {
    const { subject, message_id, body, reason, at } = JSON.parse(text) as Record<string, unknown>;
    const texts = [subject, message_id, body, reason].map((each) =>
      typeof each === "string" ? each : undefined,
    );
    const [a, b, c, d] = texts.map((each) => each?.slice(0, MAX_DEAD_BODY_CHARACTERS));
    if (a === undefined || b === undefined || c === undefined || d === undefined) return undefined;
    if (typeof at !== "number" || !Number.isFinite(at)) return undefined;
    return { subject: a, message_id: b, body: c, reason: d, at };
  } catch {
    return undefined;
  }
}
