// What every queue driver must do, asserted through the port alone, with real processes where the law speaks of them.

import { type ChangeEvent, type Id, newId, type WakeMessage } from "@formation-mcp/contract";
import type { Queue } from "@formation-mcp/queue";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { ChildDriver } from "./child-main.ts";
import { Child, LONG_MS as LONG, until } from "./child-process.ts";

/** One broker, fresh for each law. */
export interface QueueHarness {
  /** Opens the driver; each call is another user of the same broker. */
  open(): Promise<Queue>;
  /** How another process opens it. */
  child: ChildDriver;
  /** A message whose consumer died comes again after about so long, in milliseconds: at most 1,000. */
  leaseMs: number;
  /** Removes the broker. */
  close(): Promise<void>;
}

const wake = (operation = newId("op")): WakeMessage => ({ v: 1, operation_id: operation });

/** Declares the laws of the queue port for one driver. */
export function describeQueue(name: string, start: () => Promise<QueueHarness>): void {
  describe(`${name} is a queue`, { timeout: LONG }, () => {
    let harness: QueueHarness;
    let queues: Queue[];
    let children: Child[];
    const open = async () => {
      const queue = await harness.open();
      queues.push(queue);
      return queue;
    };
    const spawnChild = async () => {
      const child = new Child(harness.child);
      children.push(child);
      await until("a child process", () => child.has({ is: "ready" }));
      return child;
    };
    /** Sends so many wake-ups and returns their operations. */
    const send = async (queue: Queue, subject: string, count: number) => {
      const operations = Array.from({ length: count }, () => newId("op"));
      for (const operation of operations) await queue.publish(subject, `${operation}.1`, wake(operation));
      return operations;
    };

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

    it("hands a message to a handler, with its subject, and then never again", async () => {
      const queue = await open();
      const got: string[] = [];
      await queue.consume(["pack.build"], { slots: 1 }, async (message, subject) => {
        got.push(`${subject} ${message.operation_id}`);
      });
      const [first, second] = await send(queue, "pack.build", 2);
      await until("both messages", () => got.length >= 2);
      await new Promise((resolve) => setTimeout(resolve, harness.leaseMs * 1.5));
      expect(got).toEqual([`pack.build ${first}`, `pack.build ${second}`]);
    });

    it("keeps messages until somebody consumes", async () => {
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

    it("refuses what is no subject, and consumers without subjects or slots", async () => {
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

    it("leaves a message with a handler that takes longer than the lease", async () => {
      const [one, other] = [await open(), await open()];
      let [taken, done] = [0, 0];
      const slow = async () => {
        taken++;
        await new Promise((resolve) => setTimeout(resolve, harness.leaseMs * 3));
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
        throw new TypeError("a secret that nobody should see");
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
      const queue = await harness.open();
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

    it("tells every subscriber of every process each event once, in order", async () => {
      const [one, other, child] = [await open(), await open(), await spawnChild()];
      const heard: string[][] = [[], [], []];
      await one.subscribe((event) => heard[0]?.push(event.id));
      await one.subscribe((event) => heard[1]?.push(event.id));
      await other.subscribe((event) => heard[2]?.push(event.id));
      await child.tell({ do: "subscribe" });
      const needs = { vcpus: 1, memory_mb: 64, disk_gb: 1 };
      const wanted = { node_id: newId("node"), labels: { zone: "a" }, needs };
      const events = Array.from(
        { length: 50 },
        (_, version): ChangeEvent => ({ v: 1, id: newId("bld"), owner: "me", version, wanted }),
      );
      for (const event of events) await one.emit(event);
      const last: ChangeEvent = { v: 1, id: newId("vm"), owner: "me" };
      await child.tell({ do: "emit", event: last });
      const ids: Id[] = [...events, last].map((event) => event.id);
      const heardByAll = () => [...heard, child.events().map((event) => event.id)];
      await until("all events", () => heardByAll().every((list) => list.length >= ids.length));
      for (const list of heardByAll()) expect(list).toEqual(ids);
      expect(child.events()[3]).toEqual(events[3]);
    });

    it("tells a node's listener what is for it or for all nodes, and nothing else", async () => {
      const [one, other] = [await open(), await open()];
      const [here, there] = [newId("node"), newId("node")];
      const heard: Id[][] = [[], [], []];
      await one.subscribe(({ id }) => heard[0]?.push(id), here);
      await other.subscribe(({ id }) => heard[1]?.push(id), there);
      await other.subscribe(({ id }) => heard[2]?.push(id));
      const audiences = [undefined, here, there, "nodes", undefined, "nodes"] as const;
      const events = audiences.map(
        (who): ChangeEvent => ({ v: 1, id: newId("op"), owner: "me", ...(who ? { for: who } : {}) }),
      );
      for (const event of events) await one.emit(event);
      const ids = (...which: number[]) => which.map((index) => events[index]?.id);
      const wanted = [ids(1, 3, 5), ids(2, 3, 5), ids(0, 1, 2, 3, 4, 5)];
      await until("the last event", () =>
        heard.every((list, at) => list.length >= (wanted[at] ?? []).length),
      );
      // On NATS one word after another is another subscription, and may be heard in another order.
      expect(heard.map((list) => [...list].sort())).toEqual(wanted.map((list) => list.sort()));
      const refused = one.subscribe(() => {}, "node_>" as Id<"node">);
      await expect(refused).rejects.toMatchObject({ code: "invalid" });
    });

    it("tells no events from before a subscription or after its end, and survives a listener that throws", async () => {
      const queue = await open();
      const event = (version: number): ChangeEvent => ({ v: 1, id: newId("op"), owner: "me", version });
      await queue.emit(event(1));
      const [short, long]: [unknown[], unknown[]] = [[], []];
      await queue.subscribe(() => {
        throw new Error("a listener's own trouble");
      });
      const subscription = await queue.subscribe((heard) => short.push(heard.version));
      await queue.subscribe((heard) => long.push(heard.version));
      await queue.emit(event(2));
      await until("the event", () => short.length === 1 && long.length === 1);
      await subscription[Symbol.asyncDispose]();
      await queue.emit(event(3));
      await until("the next event", () => long.length === 2);
      expect([short, long]).toEqual([[2], [2, 3]]);
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
  });
}
