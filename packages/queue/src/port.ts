// The queue port: wake-ups that may be lost, doubled or late without harm, and events that say a record changed.

import type { ChangeEvent, Id, WakeMessage } from "@formation-mcp/contract";

/** A message that no handler could take; kept so that an operator can look at it. */
export interface DeadLetter {
  subject: string;
  message_id: string;
  /** The body as it came, at most 1,000 characters: untrusted text. */
  body: string;
  reason: string;
  /** Milliseconds since the epoch. */
  at: number;
}

export interface Consumer extends AsyncDisposable {
  /** Stops taking messages and resolves when the handlers that run are done. */
  close(): Promise<void>;
}

export interface ConsumeOptions {
  /** How many handlers run at a time. */
  slots: number;
  /** Called when wake-ups may have been lost unseen, because the broker was away: look for yourself. */
  missed?: () => void;
}

export interface Queue {
  /**
   * Sends a wake-up. The same `messageId` twice within two minutes is sent once. What wakes one node alone
   * (`vm.control.<node>`) may reach it only if it consumes at that moment.
   * @throws FormationError `unavailable`, in bounded time, if it could not be stored; `forbidden` if this process may not;
   *   `invalid` if the subject is none.
   */
  publish(subject: string, messageId: string, message: WakeMessage): Promise<void>;
  /**
   * Hands each message on the subjects to the handler, at most `slots` at a time; among all consumers of a subject one
   * gets it. Taken once the handler resolves; if it rejects or its process dies, the message comes again after a growing
   * delay, at most five times in all, and then goes among the dead letters. A body that is no wake-up goes there at once
   * and never to the handler.
   */
  consume(
    subjects: string[],
    options: ConsumeOptions,
    handler: (message: WakeMessage, subject: string) => Promise<void>,
  ): Promise<Consumer>;
  /**
   * Tells servers, and the workers it is for, that a record changed. May be lost, and never rejects for that: whoever waits
   * also polls, slowly.
   */
  emit(event: ChangeEvent): Promise<void>;
  /**
   * Hears every event emitted after this resolved, once; with a node only those for it or for all nodes. What a listener
   * throws is logged and else ignored.
   */
  subscribe(listener: (event: ChangeEvent) => void, node?: Id<"node">): Promise<AsyncDisposable>;
  /** The newest dead letters first. */
  deadLetters(limit: number): Promise<DeadLetter[]>;
  /** Removes what is old: events, wake-ups after a day, dead letters after seven days. */
  sweep(): Promise<void>;
  /** Closes every consumer and subscription, waiting for the handlers that run. */
  close(): Promise<void>;
}
