// @module-tag nats

import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Id, newId, type WakeMessage } from "@formation-mcp/contract";
import { waitFor } from "@formation-mcp/os";
import {
  type ConnectNatsOptions,
  connectNats,
  createNatsKey,
  type NatsConnection,
} from "@formation-mcp/os/nats";
import { type NatsServer, startNats } from "@formation-mcp/os/testing/nats-server";
import type { Queue } from "@formation-mcp/queue";
import { inboxPrefixOf, natsUser, openNatsQueue, permissionsOf } from "@formation-mcp/queue/nats";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { certify, deploy, keyOf } from "./nats-deploy.ts";

const wake = (operation = newId("op")): WakeMessage => ({ v: 1, operation_id: operation });
const until = (what: string, condition: () => boolean | Promise<boolean>) =>
  waitFor(condition, { what, timeoutMs: 20_000, everyMs: 10 });

const [own, other] = [newId("node"), newId("node")];
let directory: string;
let server: NatsServer;
const opened: { close(): Promise<void> }[] = [];

beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), "nats-users-"));
  deploy(directory, {
    server: { role: "server" },
    own: { role: "worker", node: own },
    other: { role: "worker", node: other },
  });
  server = await startNats({ configFile: join(directory, "nats.conf") });
});
afterEach(async () => {
  for (const each of opened.splice(0).reverse()) await each.close();
});
afterAll(async () => {
  await server?.stop();
  rmSync(directory, { recursive: true });
});

async function connect(name: string, inboxPrefix: string, more: Partial<ConnectNatsOptions> = {}) {
  const credentials = { kind: "nkey", path: keyOf(directory, name) } as const;
  const connection = await connectNats({ servers: [server.url], name, credentials, inboxPrefix, ...more });
  opened.push(connection);
  return connection;
}
const asServer = () => connect("server", inboxPrefixOf({ role: "server" }));
const asWorker = (name: "own" | "other" = "own") =>
  connect(name, inboxPrefixOf({ role: "worker", node: name === "own" ? own : other }));

async function queueOf(connection: NatsConnection, manage: boolean): Promise<Queue> {
  const queue = await openNatsQueue({ connection, manage, retryMs: 10, patienceMs: 500 });
  opened.push(queue);
  return queue;
}

/** What the server reports as refused during an action. */
async function refusals(connection: NatsConnection, what: () => void): Promise<string[]> {
  const said: string[] = [];
  const listening = (async () => {
    for await (const status of connection.status())
      if (status.type === "error") said.push(status.error.message);
  })();
  what();
  await connection.flush();
  await connection.flush();
  void listening;
  return said;
}

describe("the users of deploy/nats", () => {
  it("let a server and workers do all that a house does", async () => {
    const boss = await queueOf(await asServer(), true);
    const workers = [
      await queueOf(await asWorker("own"), false),
      await queueOf(await asWorker("other"), false),
    ];
    const got: string[][] = [[], []];
    const subjects = (node: Id<"node">) => ["pack.build", "pack.ship", `vm.control.${node}`];
    for (const [index, worker] of workers.entries()) {
      await worker.consume(subjects(index === 0 ? own : other), { slots: 1 }, async (message, subject) => {
        got[index]?.push(subject);
        await worker.emit({ v: 1, id: message.operation_id, owner: "me", for: "nodes" });
      });
    }
    const heard: string[] = [];
    await boss.subscribe((event) => heard.push(event.id));
    const heardThere: string[] = [];
    await workers[0]?.subscribe((event) => heardThere.push(event.id), own);
    const all = ["pack.build", "pack.ship", `vm.control.${own}`, `vm.control.${other}`];
    for (const [index, subject] of all.entries()) await boss.publish(subject, `m.${index}`, wake());
    await until("all wake-ups", () => got.flat().length === all.length);
    expect(got.flat().sort()).toEqual(all.sort());
    expect(got[0]).not.toContain(`vm.control.${other}`);
    await until(
      "all events, here and there",
      () => heard.length === all.length && heardThere.length >= all.length,
    );
    await boss.publish("pack.ship", "bad.1", "text" as unknown as WakeMessage);
    await boss.publish(`vm.control.${own}`, "bad.2", "text" as unknown as WakeMessage);
    await until("two dead letters", async () => (await boss.deadLetters(5)).length === 2);
    await boss.sweep();
  });

  it("keep a worker from ordering work, from waking another node, and from reading dead letters", async () => {
    await queueOf(await asServer(), true);
    const worker = await queueOf(await asWorker(), false);
    for (const subject of ["pack.build", "pack.ship"]) {
      await expect(worker.publish(subject, "m.1", wake())).rejects.toMatchObject({ code: "forbidden" });
    }
    await expect(worker.deadLetters(1)).rejects.toThrow("could not be read");
    const raw = await asWorker();
    const said = await refusals(raw, () => raw.publish(`vm.control.${other}`, "{}"));
    expect(said.join()).toContain(`vm.control.${other}`);
  });

  it("keep a worker from hearing another node, its answers, or work that it did not ask for", async () => {
    for (const subject of [
      `vm.control.${other}`,
      "vm.control.*",
      "vm.>",
      `${inboxPrefixOf({ role: "worker", node: other })}.>`,
      "_INBOX.server.>",
      "_INBOX.>",
      "formation.event.>",
      "formation.event.*.*",
      "formation.event.*.servers",
      `formation.event.*.${other}`,
      "pack.build",
      "dead.>",
      "$JS.EVENT.>",
      "$JS.API.>",
      ">",
    ]) {
      const raw = await asWorker();
      let heard = 0;
      const callback = () => {
        heard++;
      };
      const said = await refusals(raw, () => raw.subscribe(subject, { callback }));
      expect(said.join(), subject).toMatch(/permissions violation/i);
      // Once for the refusal, never for a message.
      expect(heard, subject).toBeLessThanOrEqual(1);
    }
  });

  it("keep a worker from changing, deleting or copying streams and consumers", async () => {
    await queueOf(await asServer(), true);
    const calls = [
      "STREAM.DELETE.FORMATION_WORK",
      "STREAM.PURGE.FORMATION_WORK",
      "STREAM.UPDATE.FORMATION_WORK",
      "STREAM.CREATE.MINE",
      "STREAM.MSG.GET.FORMATION_WORK",
      "STREAM.MSG.DELETE.FORMATION_WORK",
      "STREAM.DELETE.OBJ_formation-blobs",
      "STREAM.PURGE.OBJ_formation-blobs",
      "STREAM.NAMES",
      "CONSUMER.CREATE.FORMATION_WORK.mine.pack.build",
      "CONSUMER.CREATE.OBJ_formation-blobs",
      "CONSUMER.DURABLE.CREATE.FORMATION_WORK.pack_build",
      "CONSUMER.DELETE.FORMATION_WORK.pack_build",
      "CONSUMER.MSG.NEXT.FORMATION_DEAD.mine",
      "SERVER.REMOVE",
    ];
    const raw = await asWorker();
    for (const call of calls) {
      const said = await refusals(raw, () => raw.publish(`$JS.API.${call}`, "{}"));
      expect(said.join(), call).toContain(call);
    }
  });

  it("keep a worker from having an answer, or what it stored itself, sent where it may not send", async () => {
    await queueOf(await asServer(), true);
    const [boss, raw] = [await asServer(), await asWorker()];
    const call = async (who: NatsConnection, name: string, body: unknown) =>
      (await who.request(`$JS.API.${name}`, JSON.stringify(body))).string();
    const stream = { name: "FORMATION_LOGS", subjects: ["formation.log.>"], allow_direct: true };
    await call(boss, "STREAM.CREATE.FORMATION_LOGS", stream);
    await raw.request(`dead.vm.control.${own}`, "{}");
    const reading = { seq: 0 };
    for (const body of ["", JSON.stringify(wake())]) {
      const kept = await raw.request("formation.log.mine.-.stdout", body);
      const { seq } = JSON.parse(kept.string());
      for (const reply of [
        ...["pack.build", "pack.ship"],
        ...["DELETE.FORMATION_LOGS", "DELETE.FORMATION_WORK", "PURGE.FORMATION_DEAD"].map(
          (each) => `$JS.API.STREAM.${each}`,
        ),
      ]) {
        raw.publish("$JS.API.DIRECT.GET.FORMATION_LOGS", JSON.stringify({ seq }), { reply });
        raw.publish("formation.log.mine.-.stdout", body, { reply });
        raw.publish("$JS.API.STREAM.INFO.FORMATION_LOGS", "", { reply });
      }
      reading.seq = seq;
    }
    // By then all earlier requests have been answered, and the answers have taken effect.
    for (let i = 0; i < 20; i++) {
      const answer = await raw.request("$JS.API.DIRECT.GET.FORMATION_LOGS", JSON.stringify(reading));
      expect(answer.headers?.code ?? 0).toBe(0);
    }
    expect(await call(boss, "STREAM.INFO.FORMATION_WORK", {})).toContain('"messages":0,');
    expect(await call(boss, "STREAM.INFO.FORMATION_DEAD", {})).toMatch(/"messages":[1-9]/);
    expect(await call(boss, "STREAM.INFO.FORMATION_LOGS", {})).toContain('"messages":12,');
  });

  it("keep a server from deleting streams, and from taking a worker's place", async () => {
    const raw = await asServer();
    const asked = raw.request("$JS.API.STREAM.DELETE.FORMATION_WORK", "", { timeout: 2_000 });
    await expect(asked).rejects.toThrow(/permissions violation/i);
    const callback = () => {};
    const said = await refusals(raw, () => raw.subscribe(`vm.control.${own}`, { callback }));
    expect(said.join()).toMatch(/permissions violation/i);
  });

  it("come and go at a reload, and the others work on", async () => {
    const boss = await queueOf(await asServer(), true);
    const workers = join(directory, "workers.conf");
    const [before, added] = [readFileSync(workers, "utf8"), { role: "worker", node: newId("node") } as const];
    const come = () => connect("added", inboxPrefixOf(added), { timeoutMs: 500 });
    const entry = natsUser(createNatsKey(keyOf(directory, "added")), added);
    await expect(come()).rejects.toMatchObject({ code: "unauthenticated" });
    const staying = await queueOf(await asWorker(), false);
    let got = 0;
    await staying.consume(["pack.build"], { slots: 1 }, async () => {
      got++;
    });
    const isIn = (name: string, prefix: string) =>
      connect(name, prefix, { timeoutMs: 500 }).then(
        () => true,
        () => false,
      );
    try {
      writeFileSync(workers, before.replace("users: [", `users: [${entry},`));
      server.reload();
      await until("who was added", () => isIn("added", inboxPrefixOf(added)));
      writeFileSync(workers, before);
      server.reload();
      await until("who was taken away", async () => !(await isIn("added", inboxPrefixOf(added))));
      await boss.publish("pack.build", "m.reload", wake());
      await until("a wake-up", () => got === 1);
    } finally {
      writeFileSync(workers, before);
    }
  });

  it("let nobody in without a key of theirs", async () => {
    const nobody = connectNats({ servers: [server.url], name: "nobody" });
    await expect(nobody).rejects.toMatchObject({ code: "unauthenticated" });
  });
});

describe("an entry for a user", () => {
  it("is made for node ids and public keys alone", () => {
    const key = `U${"A".repeat(55)}`;
    for (const node of ["", "*", ">", "node_a.>", newId("op")]) {
      const refused = expect.objectContaining({ code: "invalid" });
      expect(() => permissionsOf({ role: "worker", node: node as Id<"node"> })).toThrow(refused);
    }
    for (const bad of [`S${key}`, "", `${key} }`]) {
      expect(() => natsUser(bad, { role: "server" })).toThrow(expect.objectContaining({ code: "invalid" }));
    }
  });
});

describe("deploy/nats/nats-tls.conf", () => {
  it("takes who shows a certificate and a key, and nobody else; and is believed with its own alone", async () => {
    certify(directory, "ca", ["server", "client"]);
    certify(directory, "stranger", ["forged"]);
    const secure = await startNats({ configFile: join(directory, "nats-tls.conf") });
    opened.push({ close: () => secure.stop() });
    const file = (name: string) => join(directory, name);
    const [ca, cert, key] = [file("ca.pem"), file("client.pem"), file("client.key")];
    const servers = [secure.url.replace("nats:", "tls:")];
    const prefix = inboxPrefixOf({ role: "server" });
    const mutual = (more: Partial<ConnectNatsOptions>) =>
      connect("server", prefix, { servers, timeoutMs: 2_000, ...more });
    const connection = await mutual({ tls: { ca, cert, key } });
    await queueOf(connection, true);
    for (const tls of [
      { ca },
      { ca: file("stranger.pem"), cert, key },
      { ca, cert: file("forged.pem"), key: file("forged.key") },
    ]) {
      await expect(mutual({ tls, timeoutMs: 500 })).rejects.toMatchObject({
        code: expect.stringMatching(/^una/),
      });
    }
    const keyless = connectNats({ servers, name: "keyless", tls: { ca, cert, key } });
    await expect(keyless).rejects.toMatchObject({ code: "unauthenticated" });
  });
});
