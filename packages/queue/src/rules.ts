// The rules for messages in every driver: valid subjects, the size of a body, how often a message is
// delivered, and what a dead letter may say about a failure.

import {
  ALL_NODES,
  type ChangeEvent,
  FormationError,
  type Id,
  idKind,
  parseChangeEvent,
  parseWakeMessage,
  type WakeMessage,
} from "@formation-mcp/contract";

export const MAX_DELIVERIES = 5;
export const DEDUP_MS = 120_000;
export const MESSAGE_KEPT_MS = 86_400_000;
export const DEAD_KEPT_MS = 7 * 86_400_000;
export const MAX_MESSAGES = 100_000;
export const MAX_DEAD = 1_000;
export const MAX_DEAD_BODY_CHARACTERS = 1_000;

const SUBJECT = /^[a-z0-9_]+(\.[a-z0-9_]+)*$/;
/** Printable and without spaces, so that it is valid in a header. */
const MESSAGE_ID = /^[\x21-\x7e]{1,200}$/;
const MAX_SUBJECT_CHARACTERS = 200;
const MAX_BODY_CHARACTERS = 65_536;

/** @throws FormationError `invalid` */
function checkSubject(subject: string): void {
  if (subject.length <= MAX_SUBJECT_CHARACTERS && SUBJECT.test(subject)) return;
  throw new FormationError("invalid", "A subject is lower-case words, digits and _ between dots.");
}

/**
 * Checks a message and returns its text.
 * @throws FormationError `invalid`
 */
export function bodyOf(subject: string, messageId: string, message: WakeMessage): string {
  checkSubject(subject);
  const body = JSON.stringify(message) ?? "";
  if (MESSAGE_ID.test(messageId) && body.length <= MAX_BODY_CHARACTERS) return body;
  throw new FormationError("invalid", "A message needs an id and a small body.");
}

/** @throws FormationError `invalid` */
export function checkConsumer(subjects: string[], slots: number): void {
  for (const subject of subjects) checkSubject(subject);
  if (subjects.length > 0 && Number.isInteger(slots) && slots >= 1) return;
  throw new FormationError("invalid", "A consumer needs subjects and at least one slot.");
}

/** Parses a body: the wake-up, or the reason why it is none. */
export function readWake(body: string): WakeMessage | string {
  try {
    return parseWakeMessage(JSON.parse(body));
  } catch (error) {
    return error instanceof FormationError ? error.message : "Not JSON.";
  }
}

/** Parses an event from an untrusted body; undefined if it is none. */
export function readEvent(body: string): ChangeEvent | undefined {
  try {
    return parseChangeEvent(JSON.parse(body));
  } catch {
    return undefined;
  }
}

/** Whether a listener of this node receives an event; without a node it receives all. */
export function isHeardAt(event: ChangeEvent, node: Id<"node"> | undefined): boolean {
  return node === undefined || event.for === node || event.for === ALL_NODES;
}

/** @throws FormationError `invalid` for a malformed node id. */
export function checkListener(node: Id<"node"> | undefined): void {
  if (node === undefined || idKind(node) === "node") return;
  throw new FormationError("invalid", "Events are heard for a node's id, or all of them.");
}

/** The reason for a dead letter: a FormationError's message is safe to show, other messages are not. */
export function reasonOf(error: unknown): string {
  if (error instanceof FormationError) return `${error.code}: ${error.message}`;
  return error instanceof Error ? error.name : "The handler rejected.";
}
