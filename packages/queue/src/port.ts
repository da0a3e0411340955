// The queue port: wake-ups, which may be lost, duplicated or late without harm, and events, which say that a
// record changed.

import type { ChangeEvent, Id, WakeMessage } from "@formation-mcp/contract";

/** A message that no handler could process; kept for an operator to look at. */
export interface DeadLetter {
  subject: string;
  message_id: string;
  /** The body as received, at most 1,000 characters: untrusted text. */
  body: string;
  reason: string;
  /** Milliseconds since the epoch. */
  at: number;
}

export interface Consumer extends AsyncDisposable {
  /** Stops taking messages, and resolves when the running handlers are done. */
  close(): Promise<void>;
}

export interface ConsumeOptions {
  /** How many handlers run at a time. */
  slots: number;
  /**
   * Called when wake-ups may have been lost unnoticed because the broker was away; the caller should poll.
   */
  missed?: () => void;
}

export interface Queue {
  /**
   * Sends a wake-up. The same `messageId` twice within two minutes is sent once. A wake-up for one node
   * (`vm.control.<node>`) may be lost if the node does not consume at that moment.
   * @throws FormationError `unavailable`, in bounded time, if it could not be stored; `forbidden` if this
   *   process lacks the permission; `invalid` for an unknown subject.
   */
  publish(subject: string, messageId: string, message: WakeMessage): Promise<void>;
  /**
   * Passes each message on the subjects to the handler, at most `slots` at a time. One of a subject's
   * consumers gets each message. A message is acknowledged when its handler resolves. If the handler rejects
   * or its process dies, the message is delivered again with growing back-off, at most five times in all, and
   * then becomes a dead letter. A body that is no wake-up becomes a dead letter at once and never reaches the
   * handler.
   */
  consume(
    subjects: string[],
    options: ConsumeOptions,
    handler: (message: WakeMessage, subject: string) => Promise<void>,
  ): Promise<Consumer>;
  /**
   * Tells the servers, and the workers it is for, that a record changed. It may be lost and never rejects: a
   * caller that waits for a change also polls slowly.
   */
  emit(event: ChangeEvent): Promise<void>;
  /**
   * Receives every event emitted after the promise resolved, once each; with a node, only those for that node
   * or for all nodes. What a listener throws is logged and otherwise ignored.
   */
  subscribe(listener: (event: ChangeEvent) => void, node?: Id<"node">): Promise<AsyncDisposable>;
  /** The newest dead letters first. */
  deadLetters(limit: number): Promise<DeadLetter[]>;
  /** Removes old events, wake-ups after a day, and dead letters after seven days. */
  sweep(): Promise<void>;
  /** Closes every consumer and subscription, and waits for the running handlers. */
  close(): Promise<void>;
}
