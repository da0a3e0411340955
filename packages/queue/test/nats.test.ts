// @module-tag nats

import { type Id, type Logger, newId, type WakeMessage } from "@formation-mcp/contract";
import { waitFor } from "@formation-mcp/os";
import { connectNats, type NatsConnection } from "@formation-mcp/os/nats";
import { type NatsServer, startNats } from "@formation-mcp/os/testing/nats-server";
import type { Queue } from "@formation-mcp/queue";
import { type NatsQueueOptions, openNatsQueue } from "@formation-mcp/queue/nats";
import { afterEach, beforeEach, describe, expect, it } from "vitest";

const wake = (operation = newId("op")): WakeMessage => ({ v: 1, operation_id: operation });
const until = (what: string, condition: () => boolean | Promise<boolean>) =>
  waitFor(condition, { what, timeoutMs: 20_000, everyMs: 10 });

let server: NatsServer;
let queues: Queue[];
let connections: NatsConnection[];

async function connect(): Promise<NatsConnection> {
  const connection = await connectNats({ servers: [server.url], name: "test", reconnectMs: 20 });
  connections.push(connection);
  return connection;
}

async function open(options: Partial<NatsQueueOptions> = {}): Promise<Queue> {
  const connection = options.connection ?? (await connect());
  const queue = await openNatsQueue({ retryMs: 20, leaseMs: 500, ...options, connection });
  queues.push(queue);
  return queue;
}

/** Takes everything on a subject, and returns what it took. */
async function taking(queue: Queue, subject: string, missed: () => void = () => {}): Promise<string[]> {
  const got: string[] = [];
  await queue.consume([subject], { slots: 1, missed }, async (message) => {
    got.push(message.operation_id);
  });
  return got;
}

/** Like the store's sweep, sends a wake-up under a new message id until one is taken. */
async function sent(queue: Queue, subject: string, id: Id<"op">, taken: () => boolean): Promise<void> {
  for (let send = 1; send <= 30 && !taken(); send++) {
    await queue.publish(subject, `${id}.${send}`, wake(id)).catch(() => {});
    await waitFor(taken, { timeoutMs: 500, what: "the message" }).catch(() => {});
  }
  expect(taken()).toBe(true);
}

beforeEach(async () => {
  queues = [];
  connections = [];
  server = await startNats();
});
afterEach(async () => {
  // A queue must also close while its server is away.
  await Promise.all(queues.map((queue) => queue.close()));
  await Promise.all(connections.map((connection) => connection.close()));
  await server.stop();
});

describe("while NATS is away, the queue", () => {
  it("refuses a message in bounded time, and takes it when NATS is back", async () => {
    const queue = await open({ patienceMs: 300 });
    const got = await taking(queue, "pack.build");
    await server.kill();
    const began = performance.now();
    for (const subject of ["pack.build", `vm.control.${newId("node")}`]) {
      await expect(queue.publish(subject, "m.1", wake())).rejects.toMatchObject({ code: "unavailable" });
    }
    expect(performance.now() - began).toBeLessThan(10_000);
    await server.restart();
    const operation = newId("op");
    await sent(queue, "pack.build", operation, () => got.includes(operation));
  });

  it("rides out a restart: a publication under way succeeds", async () => {
    const queue = await open({ patienceMs: 15_000 });
    const got = await taking(queue, "pack.build");
    await server.kill();
    const operation = newId("op");
    const published = queue.publish("pack.build", `${operation}.1`, wake(operation));
    await server.restart();
    await published;
    await until("the message", () => got.includes(operation));
    expect(got).toEqual([operation]);
  });

  it("never rejects an event, and tells those of afterwards", async () => {
    const queue = await open();
    const heard: string[] = [];
    await queue.subscribe((event) => heard.push(event.id));
    await server.kill();
    for (let i = 0; i < 100; i++) await queue.emit({ v: 1, id: newId("op"), owner: "me" });
    await server.restart();
    const last = newId("op");
    await until("an event", async () => {
      await queue.emit({ v: 1, id: last, owner: "me" });
      return heard.includes(last);
    });
  });

  it("opens consumers and subscriptions that work once it is back", async () => {
    const queue = await open();
    await server.kill();
    const got = await taking(queue, "pack.build");
    const heard: string[] = [];
    await queue.subscribe((event) => heard.push(event.id));
    await server.restart();
    const operation = newId("op");
    await sent(queue, "pack.build", operation, () => got.includes(operation));
    await until("an event", async () => {
      await queue.emit({ v: 1, id: operation, owner: "me" });
      return heard.includes(operation);
    });
  });

  it("is unavailable to who opens it, and closes at once", async () => {
    const connection = await connect();
    const queue = await open();
    await taking(queue, "pack.build");
    await server.kill();
    await expect(openNatsQueue({ connection, patienceMs: 100 })).rejects.toMatchObject({
      code: "unavailable",
    });
    await queue.close();
  }, 30_000);

  it("leaves nothing at the connection of a consumer that closes", async () => {
    const connection = await connect();
    const made: { isClosed(): boolean }[] = [];
    const subscribe = connection.subscribe.bind(connection);
    connection.subscribe = (...given) => {
      const subscription = subscribe(...given);
      made.push(subscription);
      return subscription;
    };
    const queue = await open({ connection });
    const subjects = ["pack.build", "pack.ship", `vm.control.${newId("node")}`];
    made.splice(0);
    const consumer = await queue.consume(subjects, { slots: 1 }, async () => {});
    expect(made.length).toBeGreaterThanOrEqual(subjects.length);
    const gone = (async () => {
      for await (const { type } of connection.status()) if (type === "disconnect") return;
    })();
    await server.kill();
    await gone;
    await consumer.close();
    expect(made.map((subscription) => subscription.isClosed())).not.toContain(false);
  });

  it("tells consumers afterwards that they may have missed something", async () => {
    let missed = 0;
    await taking(await open(), `vm.control.${newId("node")}`, () => missed++);
    await server.kill();
    expect(missed).toBe(0);
    await server.restart();
    await until("the word", () => missed > 0);
  });
});

describe("a NATS that lost its whole store", () => {
  it("gets its streams and consumers again, and work goes on, also for who may not make them", async () => {
    const boss = await open();
    const worker = await open({ manage: false });
    const got = await taking(worker, "pack.ship");
    for (let round = 0; round < 3; round++) {
      const lost = newId("op");
      await boss.publish("pack.build", `${lost}.1`, wake(lost));
      await server.wipe();
      await server.restart();
      const operation = newId("op");
      await sent(boss, "pack.ship", operation, () => got.includes(operation));
    }
    expect(await boss.deadLetters(10)).toEqual([]);
  });

  it("is noticed by a publication too, when somebody deletes streams under us", async () => {
    const boss = await open();
    const got = await taking(await open({ manage: false }), "pack.build");
    const raw = await connect();
    for (const stream of ["FORMATION_WORK", "FORMATION_DEAD"]) {
      await raw.request(`$JS.API.STREAM.DELETE.${stream}`);
    }
    const operation = newId("op");
    await sent(boss, "pack.build", operation, () => got.includes(operation));
    await boss.publish("pack.build", "bad.1", "text" as unknown as WakeMessage);
    await until("a dead letter", async () => (await boss.deadLetters(1)).length === 1);
  });

  it("keeps a worker waiting that was there first", async () => {
    const got = await taking(await open({ manage: false }), "pack.build");
    const operation = newId("op");
    await (await open()).publish("pack.build", `${operation}.1`, wake(operation));
    await until("the message", () => got.includes(operation));
  });
});

describe("messages in NATS", () => {
  it("survive a kill of the server", async () => {
    const queue = await open();
    const operations = Array.from({ length: 20 }, () => newId("op"));
    for (const operation of operations) await queue.publish("pack.build", `${operation}.1`, wake(operation));
    await server.kill();
    await server.restart();
    const got = await taking(await open(), "pack.build");
    await until("all messages", () => got.length >= operations.length);
    expect(got).toEqual(operations);
  });

  it("become dead letters when five in a row died with them", async () => {
    const queue = await open();
    const operation = newId("op");
    await queue.publish("pack.build", `${operation}.1`, wake(operation));
    const raw = await connect();
    // Five consumers that take it, never answer, and vanish.
    const replies: (string | undefined)[] = [];
    raw.subscribe("taken", {
      callback: (_, message) => {
        replies.push(message.reply);
      },
    });
    for (let death = 1; death <= 5; death++) {
      const next = "$JS.API.CONSUMER.MSG.NEXT.FORMATION_WORK.pack_build";
      raw.publish(next, JSON.stringify({ batch: 1, expires: 20e9 }), { reply: "taken" });
      await until("the message", () => replies.length === death);
      expect(replies.at(-1)).toContain(`.pack_build.${death}.`);
    }
    const got = await taking(queue, "pack.build");
    await until("a dead letter", async () => (await queue.deadLetters(1)).length === 1);
    expect(got).toEqual([]);
    expect((await queue.deadLetters(1))[0]).toMatchObject({
      subject: "pack.build",
      message_id: `${operation}.1`,
      reason: expect.stringContaining("vanished"),
    });
  });

  it("that are bytes, huge or without an id are dead letters, and no letter or event is believed", async () => {
    const queue = await open();
    const raw = await connect();
    const heard: unknown[] = [];
    await queue.subscribe((event) => heard.push(event));
    await taking(queue, "pack.build");
    for (const body of [new Uint8Array([0xff, 0x00, 0x80]), "x".repeat(500_000)])
      raw.publish("pack.build", body);
    await until("two dead letters", async () => (await queue.deadLetters(9)).length === 2);
    for (const letter of await queue.deadLetters(9)) expect(letter.body.length).toBeLessThanOrEqual(1_000);
    for (const text of ["", "{}", "[1]", '{"subject":1}', '{"v":1,"id":"op_x","owner":"me"}']) {
      raw.publish("dead.pack.build", text);
      raw.publish("formation.event.op.servers", text);
    }
    const event = { v: 1, id: newId("op"), owner: "me" } as const;
    raw.publish("formation.event.op.servers", JSON.stringify({ ...event, more: "x" }));
    await until("the one event", () => heard.length > 0);
    expect(heard).toEqual([event]);
    expect(await queue.deadLetters(9)).toHaveLength(2);
  });

  it("say in the log what failed, without what a handler's error says", async () => {
    const said: string[] = [];
    const logger: Logger = { log: (...all) => said.push(JSON.stringify(all)) };
    const queue = await open({ logger });
    await queue.consume(["pack.build"], { slots: 1 }, async () => {
      throw new Error("hunter2");
    });
    await queue.publish("pack.build", "m.1", wake());
    await until("the dead letter", async () => (await queue.deadLetters(1)).length === 1);
    expect(said.some((line) => line.includes("dead letter"))).toBe(true);
    expect(said.join()).not.toContain("hunter2");
  });

  it("of two subjects share a consumer's slots", async () => {
    const queue = await open();
    let [running, most, done] = [0, 0, 0];
    await queue.consume(["pack.build", "pack.ship"], { slots: 1 }, async () => {
      most = Math.max(most, ++running);
      await new Promise((resolve) => setTimeout(resolve, 10));
      running--;
      done++;
    });
    for (let i = 0; i < 10; i++) {
      await queue.publish("pack.build", `b.${i}`, wake());
      await queue.publish("pack.ship", `s.${i}`, wake());
    }
    await until("all messages", () => done === 20);
    expect(most).toBe(1);
  });

  it("on a subject that does not exist are refused", async () => {
    const queue = await open();
    const refused = { code: "invalid" };
    await expect(queue.publish("pack.other", "m.1", wake())).rejects.toMatchObject(refused);
    await expect(queue.consume(["other"], { slots: 1 }, async () => {})).rejects.toMatchObject(refused);
    for (const id of ["", "a b", "a\r\nb: c", "x".repeat(201)]) {
      await expect(queue.publish("pack.build", id, wake())).rejects.toMatchObject(refused);
    }
  });
});

describe("a control subject", () => {
  it("wakes the node that listens, and tries again where its handler failed", async () => {
    const [queue, node] = [await open(), await open()];
    const subject = `vm.control.${newId("node")}`;
    const got: string[] = [];
    await node.consume([subject, "pack.build"], { slots: 1 }, async (message, on) => {
      got.push(`${on} ${message.operation_id}`);
      if (got.length === 1) throw new Error("not now");
    });
    const operation = newId("op");
    await queue.publish(subject, `${operation}.1`, wake(operation));
    await until("it twice", () => got.length === 2);
    expect(new Set(got)).toEqual(new Set([`${subject} ${operation}`]));
  });

  it("of another node stays unheard", async () => {
    const queue = await open();
    const got = await taking(queue, `vm.control.${newId("node")}`);
    await queue.publish(`vm.control.${newId("node")}`, "m.1", wake());
    const heard: unknown[] = [];
    await queue.subscribe((event) => heard.push(event));
    await queue.emit({ v: 1, id: newId("op"), owner: "me" });
    await until("what was sent later", () => heard.length === 1);
    expect(got).toEqual([]);
  });
});

describe("streams", () => {
  it("take on a new configuration, and keep what can't be changed", async () => {
    const said: string[] = [];
    await open();
    const again = await open({
      leaseMs: 900,
      storage: "memory",
      logger: { log: (_, what) => said.push(what) },
    });
    expect(said).toContain("A stream keeps its old configuration.");
    const got = await taking(again, "pack.build");
    const operation = newId("op");
    await again.publish("pack.build", `${operation}.1`, wake(operation));
    await until("the message", () => got.includes(operation));
    const info = await (await connect()).request("$JS.API.CONSUMER.INFO.FORMATION_WORK.pack_build");
    expect(info.json<{ config: { ack_wait: number } }>().config.ack_wait).toBe(900e6);
  });
});
