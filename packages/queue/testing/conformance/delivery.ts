// Delivery: a message reaches one handler, in one process or in several.

import { newId, type WakeMessage } from "@formation-mcp/contract";
import { expect, it } from "vitest";
import { until } from "../child-process.ts";
import { type QueueFixture, wake } from "./fixture.ts";

/** Which consumer gets a message, how often, and how many at a time. */
export function describeDelivery({ open, send, leaseMs }: QueueFixture): void {
  it("hands a message to a handler, with its subject, and then never again", async () => {
    const queue = await open();
    const got: string[] = [];
    await queue.consume(["pack.build"], { slots: 1 }, async (message, subject) => {
      got.push(`${subject} ${message.operation_id}`);
    });
    const [first, second] = await send(queue, "pack.build", 2);
    await until("both messages", () => got.length >= 2);
    await new Promise((resolve) => setTimeout(resolve, leaseMs() * 1.5));
    expect(got).toEqual([`pack.build ${first}`, `pack.build ${second}`]);
  });

  it("keeps messages until there is a consumer", async () => {
    const sent = await send(await open(), "pack.ship", 3);
    const got: string[] = [];
    await (await open()).consume(["pack.ship"], { slots: 1 }, async (message) => {
      got.push(message.operation_id);
    });
    await until("three messages", () => got.length === 3);
    expect(got).toEqual(sent);
  });

  it("hands out only the subjects that were asked for", async () => {
    const queue = await open();
    const got: string[] = [];
    await send(queue, "vm.control.node_a", 1);
    await queue.consume(["pack.build", "pack.ship"], { slots: 2 }, async (_, subject) => {
      got.push(subject);
    });
    await send(queue, "pack.ship", 1);
    await send(queue, "pack.build", 1);
    await until("two messages", () => got.length === 2);
    expect(got.sort()).toEqual(["pack.build", "pack.ship"]);
  });

  it("sends the same message id once", async () => {
    const [one, other] = [await open(), await open()];
    const got: string[] = [];
    await one.consume(["pack.build"], { slots: 4 }, async (message) => {
      got.push(message.operation_id);
    });
    const [operation, last] = [newId("op"), newId("op")];
    for (const queue of [one, other, one])
      await queue.publish("pack.build", `${operation}.1`, wake(operation));
    await other.publish("pack.build", `${operation}.2`, wake(operation));
    await one.publish("pack.build", `${last}.1`, wake(last));
    await until("the last message", () => got.includes(last));
    expect(got.filter((id) => id === operation)).toHaveLength(2);
  });

  it("refuses invalid subjects, and consumers without subjects or slots", async () => {
    const queue = await open();
    for (const subject of ["", "pack.*", "pack.>", "a..b", "a b", "pack.build\n"]) {
      await expect(queue.publish(subject, "m.1", wake())).rejects.toMatchObject({ code: "invalid" });
    }
    const idle = async () => {};
    await expect(queue.consume([], { slots: 1 }, idle)).rejects.toMatchObject({ code: "invalid" });
    await expect(queue.consume(["a"], { slots: 0 }, idle)).rejects.toMatchObject({ code: "invalid" });
  });

  it("runs as many handlers at a time as there are slots, and no more", async () => {
    const queue = await open();
    let [running, most, done] = [0, 0, 0];
    await queue.consume(["pack.build"], { slots: 3 }, async () => {
      most = Math.max(most, ++running);
      await new Promise((resolve) => setTimeout(resolve, 20));
      running--;
      done++;
    });
    await send(queue, "pack.build", 15);
    await until("all messages", () => done === 15);
    expect(most).toBe(3);
  });

  it("loses nothing that is fresh in a sweep", async () => {
    const queue = await open();
    const sent = await send(queue, "pack.build", 3);
    await queue.publish("pack.ship", "bad.1", "bad" as unknown as WakeMessage);
    const got: string[] = [];
    await queue.sweep();
    await queue.consume(["pack.build", "pack.ship"], { slots: 1 }, async (message) => {
      got.push(message.operation_id);
    });
    await until("all messages", () => got.length === 3);
    await until("the dead letter", async () => (await queue.deadLetters(5)).length === 1);
    await queue.sweep();
    expect(got).toEqual(sent);
    expect(await queue.deadLetters(5)).toHaveLength(1);
  });
}

/** Messages between processes. */
export function describeProcesses({ open, spawnChild, send }: QueueFixture): void {
  it("gives each message to one consumer, over all processes", async () => {
    const [queue, ...others] = [await open(), await spawnChild(), await spawnChild()];
    const got: string[] = [];
    await queue.consume(["pack.build"], { slots: 1 }, async (message) => {
      got.push(message.operation_id);
    });
    for (const child of others) {
      await child.tell({ do: "consume", subjects: ["pack.build"], slots: 1, hang: false });
    }
    const sent = await send(queue, "pack.build", 60);
    const all = () => [...got, ...others.flatMap((child) => child.messages())];
    await until("all messages", () => all().length >= 60);
    expect(all().sort()).toEqual(sent.sort());
  });

  it("hands messages from one process to another", async () => {
    const [queue, child] = [await open(), await spawnChild()];
    const got: string[] = [];
    await queue.consume(["pack.ship"], { slots: 1 }, async (message) => {
      got.push(message.operation_id);
    });
    const operation = newId("op");
    await child.tell({
      do: "publish",
      subject: "pack.ship",
      id: `${operation}.1`,
      message: wake(operation),
    });
    await until("the message", () => got.length === 1);
    expect(got).toEqual([operation]);
  });

  it("gives a message again whose consumer was killed", async () => {
    const [queue, child] = [await open(), await spawnChild()];
    await child.tell({ do: "consume", subjects: ["pack.build"], slots: 1, hang: true });
    const [operation] = await send(queue, "pack.build", 1);
    await until("the child's message", () => child.messages().length === 1);
    const got: string[] = [];
    await queue.consume(["pack.build"], { slots: 1 }, async (message) => {
      got.push(message.operation_id);
    });
    child.kill();
    await until("the message again", () => got.length === 1);
    expect(got).toEqual([operation]);
  });
}
