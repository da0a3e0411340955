// What each case of the queue's suite works with: a fresh broker, and users of it in this process and in
// others.

import { newId, type WakeMessage } from "@formation-mcp/contract";
import type { Queue } from "@formation-mcp/queue";
import { afterEach, beforeEach } from "vitest";
import type { ChildDriver } from "../child-main.ts";
import { Child, until } from "../child-process.ts";

/** What a driver's own test passes to the suite: one broker, fresh for each case. */
export interface QueueHarness {
  /** Opens the driver; each call is another user of the same broker. */
  open(): Promise<Queue>;
  /** How another process opens it. */
  child: ChildDriver;
  /**
   * The message of a dead consumer is delivered again after about this time, in milliseconds. At most 1,000.
   */
  leaseMs: number;
  /** Removes the broker. */
  close(): Promise<void>;
}

/** The users of the current case's broker. They are closed after the case. */
export interface QueueFixture {
  open(): Promise<Queue>;
  /** Starts another process that has the queue open. */
  spawnChild(): Promise<Child>;
  /** Publishes this many wake-ups and returns their operations. */
  send(queue: Queue, subject: string, count: number): Promise<string[]>;
  leaseMs(): number;
}

/** A wake-up for an operation. */
export const wake = (operation = newId("op")): WakeMessage => ({ v: 1, operation_id: operation });

/** Starts a broker before each case of the enclosing `describe`, and removes it after. */
export function useQueue(start: () => Promise<QueueHarness>): QueueFixture {
  let harness: QueueHarness;
  let queues: Queue[];
  let children: Child[];
  beforeEach(async () => {
    queues = [];
    children = [];
    harness = await start();
  });
  afterEach(async () => {
    await Promise.all(children.map((child) => child.end()));
    await Promise.all(queues.map((queue) => queue.close()));
    await harness.close();
  });
  return {
    leaseMs: () => harness.leaseMs,
    async open() {
      const queue = await harness.open();
      queues.push(queue);
      return queue;
    },
    async spawnChild() {
      const child = new Child(harness.child);
      children.push(child);
      await until("a child process", () => child.has({ is: "ready" }));
      return child;
    },
    async send(queue, subject, count) {
      const operations = Array.from({ length: count }, () => newId("op"));
      for (const operation of operations) await queue.publish(subject, `${operation}.1`, wake(operation));
      return operations;
    },
  };
}
