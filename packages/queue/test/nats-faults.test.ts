// @module-tag nats

// Rounds of faults on one deployment: after each fault, work and events must arrive again without help.
// FAULT_ROUNDS runs more rounds; FAULT_SEED=n FAULT_ROUNDS=1 repeats one.

import { setTimeout as delay } from "node:timers/promises";
import { seededRandom } from "@formation-mcp/base/testing/seeded-random";
import { newId } from "@formation-mcp/contract";
import { waitFor } from "@formation-mcp/os";
import { connectNats, type NatsConnection } from "@formation-mcp/os/nats";
import { type NatsServer, startNats } from "@formation-mcp/os/testing/nats-server";
import type { Queue } from "@formation-mcp/queue";
import { openNatsQueue } from "@formation-mcp/queue/nats";
import { expect, it } from "vitest";

const ROUNDS = Number(process.env["FAULT_ROUNDS"] ?? 8);
const SEED = Number(process.env["FAULT_SEED"] ?? Math.floor(Math.random() * 1_000_000));
const LONGEST_MS = 1_500;

interface House {
  server: NatsServer;
  boss: Queue;
  bossConnection: NatsConnection;
  /** Starts a worker that takes all further work, in place of the previous one. */
  hire(): Promise<void>;
}

const FAULTS: Record<string, (house: House, ms: number) => Promise<void>> = {
  async "kill -9"({ server }, ms) {
    await server.kill();
    await delay(ms);
    await server.restart();
  },
  restart: ({ server }) => server.restart(),
  async "the store is lost"({ server }, ms) {
    await server.wipe();
    await delay(ms);
    await server.restart();
  },
  async silence({ server }, ms) {
    server.pause();
    await delay(ms);
    server.resume();
  },
  async "streams are deleted"({ bossConnection }) {
    for (const stream of ["FORMATION_WORK", "FORMATION_DEAD"]) {
      await bossConnection.request(`$JS.API.STREAM.DELETE.${stream}`);
    }
  },
  async "a consumer is deleted"({ bossConnection }) {
    await bossConnection.request("$JS.API.CONSUMER.DELETE.FORMATION_WORK.pack_build");
  },
  "a cut connection": ({ bossConnection }) => bossConnection.reconnect(),
  "a worker is replaced": (house) => house.hire(),
};

it(`after any fault work and events go on, ${ROUNDS} times`, async () => {
  const server = await startNats();
  const open: { close(): Promise<unknown> }[] = [];
  const connect = async () => {
    const connection = await connectNats({
      servers: [server.url],
      name: "faults",
      reconnectMs: 20,
      pingMs: 300,
    });
    open.push(connection);
    return connection;
  };
  const own = `vm.control.${newId("node")}`;
  const subjects = ["pack.build", "pack.ship", own];
  const got = new Set<string>();
  const heard = new Set<string>();
  let worker: Queue | undefined;
  const bossConnection = await connect();
  const boss = await openNatsQueue({
    connection: bossConnection,
    leaseMs: 500,
    retryMs: 20,
    checkEveryMs: 500,
  });
  const house: House = {
    server,
    boss,
    bossConnection,
    async hire() {
      const former = worker;
      worker = await openNatsQueue({ connection: await connect(), manage: false, leaseMs: 500, retryMs: 20 });
      open.push(worker);
      await worker.consume(subjects, { slots: 2 }, async ({ operation_id }, subject) => {
        got.add(`${subject} ${operation_id}`);
      });
      await former?.close();
    },
  };
  try {
    await house.hire();
    await boss.subscribe(({ id }) => heard.add(id));
    for (let round = 0; round < ROUNDS; round++) {
      const random = seededRandom(Math.imul(SEED + round, 0x9e3779b1));
      const names = Object.keys(FAULTS);
      const name = names[Math.floor(random() * names.length)] ?? "";
      const ms = Math.floor(random() * LONGEST_MS);
      const told = `seed ${SEED + round}: ${name}, ${ms} ms`;
      await FAULTS[name]?.(house, ms);
      const began = performance.now();
      for (const subject of subjects) {
        const operation = newId("op");
        const arrived = () => got.has(`${subject} ${operation}`);
        for (let send = 1; !arrived(); send++) {
          expect(performance.now() - began, told).toBeLessThan(40_000);
          await boss
            .publish(subject, `${operation}.${send}`, { v: 1, operation_id: operation })
            .catch((error: { code: string }) => expect(error.code, told).toBe("unavailable"));
          await waitFor(arrived, { what: "a message", timeoutMs: 500, everyMs: 5 }).catch(() => {});
        }
      }
      const event = newId("op");
      for (; !heard.has(event); await delay(20)) {
        expect(performance.now() - began, told).toBeLessThan(40_000);
        await worker?.emit({ v: 1, id: event, owner: "me" });
      }
      process.stderr.write(`  ${told}: went on after ${Math.round(performance.now() - began)} ms\n`);
    }
    expect(await boss.deadLetters(5)).toEqual([]);
  } finally {
    await boss.close();
    for (const each of open.reverse()) await each.close();
    await server.stop();
  }
}, 3_600_000);
