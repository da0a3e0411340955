// Redelivery: messages after a failing handler, with an unreadable body, or of a closed consumer.

import { newId, type WakeMessage } from "@formation-mcp/contract";
import { expect, it } from "vitest";
import { until } from "../child-process.ts";
import { type QueueFixture, wake } from "./fixture.ts";

/** Slow and failing handlers, unreadable messages, dead letters. */
export function describeRedelivery({ open, send, leaseMs }: QueueFixture): void {
  it("leaves a message with a handler that takes longer than the lease", async () => {
    const [one, other] = [await open(), await open()];
    let [taken, done] = [0, 0];
    const slow = async () => {
      taken++;
      await new Promise((resolve) => setTimeout(resolve, leaseMs() * 3));
      done++;
    };
    for (const queue of [one, other]) await queue.consume(["pack.build"], { slots: 2 }, slow);
    await send(one, "pack.build", 1);
    await until("the handler", () => done === 1);
    expect(taken).toBe(1);
  });

  it("gives a message again when its handler rejects, five times in all, and then keeps it as a dead letter", async () => {
    const queue = await open();
    const got: number[] = [];
    await queue.consume(["pack.build"], { slots: 1 }, async () => {
      got.push(performance.now());
      throw new TypeError("a secret that no log should show");
    });
    const [operation] = await send(queue, "pack.build", 1);
    await until("a dead letter", async () => (await queue.deadLetters(10)).length === 1);
    expect(got).toHaveLength(5);
    const [letter] = await queue.deadLetters(10);
    expect(letter).toMatchObject({ subject: "pack.build", message_id: `${operation}.1` });
    expect(letter?.body).toContain(operation);
    expect(letter?.reason).not.toContain("secret");
  });

  it("gives the next message while a failed one waits", async () => {
    const queue = await open();
    const got: string[] = [];
    const sent = await send(queue, "pack.build", 2);
    await queue.consume(["pack.build"], { slots: 1 }, async (message) => {
      got.push(message.operation_id);
      if (got.length === 1) throw new Error("not now");
    });
    await until("all messages", () => got.length === 3);
    expect(got).toEqual([sent[0], sent[1], sent[0]]);
  });

  it("keeps an unreadable message as a dead letter and goes on", async () => {
    const queue = await open();
    const got: string[] = [];
    const bad = [
      { hello: "world" },
      null,
      "text",
      { v: 2, operation_id: newId("op") },
      { ...wake(), more: 1 },
    ];
    for (const [index, body] of bad.entries()) {
      await queue.publish("pack.build", `bad.${index}`, body as unknown as WakeMessage);
    }
    const [operation] = await send(queue, "pack.build", 1);
    await queue.consume(["pack.build"], { slots: 1 }, async (message) => {
      got.push(message.operation_id);
    });
    await until("dead letters", async () => (await queue.deadLetters(10)).length === bad.length);
    await until("the good message", () => got.length > 0);
    expect(got).toEqual([operation]);
    expect((await queue.deadLetters(2)).map((letter) => letter.message_id)).toEqual(["bad.4", "bad.3"]);
    expect((await queue.deadLetters(9)).at(-1)?.body).toBe('{"hello":"world"}');
  });
}

/** What closing a consumer or the queue waits for. */
export function describeClosing({ open, send }: QueueFixture): void {
  it("waits for running handlers when a consumer closes, and takes nothing more", async () => {
    const queue = await open();
    let [begun, ended] = [0, 0];
    const consumer = await queue.consume(["pack.build"], { slots: 1 }, async () => {
      begun++;
      await new Promise((resolve) => setTimeout(resolve, 200));
      ended++;
    });
    const sent = await send(queue, "pack.build", 3);
    await until("a handler", () => begun === 1);
    await consumer.close();
    expect([begun, ended]).toEqual([1, 1]);
    const got: string[] = [];
    await queue.consume(["pack.build"], { slots: 1 }, async (message) => {
      got.push(message.operation_id);
    });
    await until("the other messages", () => got.length === 2);
    expect([begun, ...got]).toEqual([1, sent[1], sent[2]]);
  });

  it("waits for running handlers when the queue closes, and may be closed twice", async () => {
    const queue = await open();
    let ended = false;
    let begun = false;
    await queue.consume(["pack.build"], { slots: 1 }, async () => {
      begun = true;
      await new Promise((resolve) => setTimeout(resolve, 100));
      ended = true;
    });
    await send(queue, "pack.build", 1);
    await until("a handler", () => begun);
    await queue.close();
    expect(ended).toBe(true);
    await queue.close();
    await expect(queue.publish("pack.build", "late.1", wake())).rejects.toMatchObject({
      code: "unavailable",
    });
  });
}
