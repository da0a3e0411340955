// The SQL of wake-ups and dead letters: which consumer may take a message, for how long, and when it is
// delivered again. A message is taken by a lease in its row, so the message of a dead process becomes
// available by itself.

import type { DeadLetter } from "../port.ts";
import {
  DEAD_KEPT_MS,
  DEDUP_MS,
  MAX_DEAD,
  MAX_DEAD_BODY_CHARACTERS,
  MAX_MESSAGES,
  MESSAGE_KEPT_MS,
} from "../rules.ts";
import type { OpenDatabase } from "./queue-file.ts";

/** The longest lease or delay. A time further ahead was written before the clock was set back. */
const MAX_LEASE_OR_DELAY_MS = 3_600_000;

export interface Message {
  seq: number;
  subject: string;
  message_id: string;
  body: string;
  deliveries: number;
}

/** Stores a message, unless its id was seen within two minutes. */
export function putMessage(
  file: OpenDatabase,
  subject: string,
  messageId: string,
  body: string,
  now: number,
): void {
  const fresh = file.run(
    `INSERT INTO recent (message_id, at) VALUES (?, ?) ON CONFLICT (message_id) DO UPDATE SET at = excluded.at
     WHERE recent.at <= excluded.at - ${DEDUP_MS} OR recent.at > excluded.at + ${DEDUP_MS}`,
    messageId,
    now,
  );
  if (fresh === 0) return;
  const { lastInsertRowid } = file
    .sql("INSERT INTO messages (subject, message_id, body, created_at, visible_at) VALUES (?, ?, ?, ?, ?)")
    .run(subject, messageId, body, now, now);
  if (Number(lastInsertRowid) % 256 === 0) pruneMessages(file, now);
}

/** Whether a message can be taken now. Cheap, and needs no write lock. */
export function hasMessage(file: OpenDatabase, subjects: string[], now: number): boolean {
  return (
    file.one(
      `SELECT 1 FROM messages WHERE ${subjectFilter(subjects)} AND (visible_at <= ? OR visible_at > ?) LIMIT 1`,
      ...subjects,
      now,
      now + MAX_LEASE_OR_DELAY_MS,
    ) !== undefined
  );
}

/** When the next leased or delayed message may be taken; undefined if there is none. */
export function nextVisible(file: OpenDatabase, subjects: string[]): number | undefined {
  const row = file.one<{ at: number | null }>(
    `SELECT min(visible_at) AS at FROM messages WHERE ${subjectFilter(subjects)}`,
    ...subjects,
  );
  return row?.at ?? undefined;
}

/** Takes the oldest message for `leaseMs`. */
export function takeMessage(
  file: OpenDatabase,
  subjects: string[],
  holder: string,
  now: number,
  leaseMs: number,
): Message | undefined {
  return file.one<Message>(
    `UPDATE messages SET deliveries = deliveries + 1, visible_at = ?, holder = ? WHERE seq = (
       SELECT seq FROM messages WHERE ${subjectFilter(subjects)} AND (visible_at <= ? OR visible_at > ?) ORDER BY seq LIMIT 1)
     RETURNING seq, subject, message_id, body, deliveries`,
    now + leaseMs,
    holder,
    ...subjects,
    now,
    now + MAX_LEASE_OR_DELAY_MS,
  );
}

export function renewLease(file: OpenDatabase, seq: number, holder: string, until: number): void {
  file.run("UPDATE messages SET visible_at = ? WHERE seq = ? AND holder = ?", until, seq, holder);
}

export function deleteMessage(file: OpenDatabase, seq: number, holder: string): void {
  file.run("DELETE FROM messages WHERE seq = ? AND holder = ?", seq, holder);
}

export function releaseMessage(file: OpenDatabase, seq: number, holder: string, visibleAt: number): void {
  file.run(
    "UPDATE messages SET visible_at = ?, holder = NULL WHERE seq = ? AND holder = ?",
    visibleAt,
    seq,
    holder,
  );
}

/** Moves a message of this holder to the dead letters. */
export function moveToDeadLetters(
  file: OpenDatabase,
  message: Message,
  holder: string,
  reason: string,
  now: number,
): void {
  if (file.run("DELETE FROM messages WHERE seq = ? AND holder = ?", message.seq, holder) === 0) return;
  file.run(
    "INSERT INTO dead (subject, message_id, body, reason, at) VALUES (?, ?, ?, ?, ?)",
    message.subject,
    message.message_id,
    message.body.slice(0, MAX_DEAD_BODY_CHARACTERS),
    reason.slice(0, MAX_DEAD_BODY_CHARACTERS),
    now,
  );
  file.run(`DELETE FROM dead WHERE seq <= (SELECT max(seq) FROM dead) - ${MAX_DEAD}`);
}

export function deadLetters(file: OpenDatabase, limit: number): DeadLetter[] {
  return file.all<DeadLetter>(
    "SELECT subject, message_id, body, reason, at FROM dead ORDER BY seq DESC LIMIT ?",
    limit,
  );
}

export function pruneMessages(file: OpenDatabase, now: number): void {
  file.run("DELETE FROM recent WHERE at <= ?", now - DEDUP_MS);
  file.run("DELETE FROM messages WHERE created_at <= ? AND visible_at <= ?", now - MESSAGE_KEPT_MS, now);
  file.run(`DELETE FROM messages WHERE seq <= (SELECT max(seq) FROM messages) - ${MAX_MESSAGES}`);
  file.run("DELETE FROM dead WHERE at <= ?", now - DEAD_KEPT_MS);
}

function subjectFilter(subjects: string[]): string {
  return `subject IN (${subjects.map(() => "?").join(", ")})`;
}
