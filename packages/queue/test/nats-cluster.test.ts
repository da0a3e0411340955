// @module-tag nats

import { mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { newId } from "@formation-mcp/contract";
import { waitFor } from "@formation-mcp/os";
import { connectNats } from "@formation-mcp/os/nats";
import { type NatsServer, startNats } from "@formation-mcp/os/testing/nats-server";
import { inboxPrefixOf, openNatsQueue } from "@formation-mcp/queue/nats";
import { expect, it } from "vitest";
import { certify, deploy, keyOf } from "./nats-deploy.ts";

const NAMES = ["a", "b", "c"];
/** How many of them are killed, one after the other: one by default, all in long runs. */
const KILLED = process.env["FAULT_ROUNDS"] === undefined ? 1 : NAMES.length;

async function freePorts(count: number): Promise<number[]> {
  const taken = await Promise.all(
    Array.from({ length: count }, async () => {
      const server = createServer();
      await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
      const address = server.address();
      return { server, port: typeof address === "object" ? (address?.port ?? 0) : 0 };
    }),
  );
  await Promise.all(taken.map(({ server }) => new Promise((resolve) => server.close(resolve))));
  return taken.map(({ port }) => port);
}

it("three servers by deploy/nats/nats-cluster.conf keep every message, though any one of them is killed", async () => {
  const directory = mkdtempSync(join(tmpdir(), "nats-cluster-"));
  const servers: NatsServer[] = [];
  const node = newId("node");
  deploy(directory, { boss: { role: "server" }, worker: { role: "worker", node } });
  certify(directory, "ca", ["server", "client"]);
  const ports = await freePorts(NAMES.length);
  const routes = `[${ports.map((port) => `"nats://127.0.0.1:${port}"`).join(", ")}]`;
  const file = (name: string) => join(directory, name);
  const connect = (name: string, inboxPrefix: string) =>
    connectNats({
      servers: servers.map(({ url }) => url.replace("nats:", "tls:")),
      name,
      credentials: { kind: "nkey", path: keyOf(directory, name) },
      tls: { ca: file("ca.pem"), cert: file("client.pem"), key: file("client.key") },
      inboxPrefix,
      reconnectMs: 50,
      pingMs: 500,
    });
  try {
    const env = (index: number) => ({
      NATS_NAME: NAMES[index] ?? "",
      NATS_ROUTE: `"127.0.0.1:${ports[index]}"`,
      NATS_ROUTES: routes,
    });
    const configFile = file("nats-cluster.conf");
    servers.push(...(await Promise.all(NAMES.map((_, index) => startNats({ configFile, env: env(index) })))));
    const boss = await connect("boss", inboxPrefixOf({ role: "server" }));
    const worker = await connect("worker", inboxPrefixOf({ role: "worker", node }));
    const sending = await openNatsQueue({
      connection: boss,
      replicas: 3,
      // Electing a leader takes time on a busy machine.
      patienceMs: 60_000,
      leaseMs: 1_000,
    });
    const taking = await openNatsQueue({ connection: worker, manage: false });
    const sent: string[] = [];
    const send = async (count: number) => {
      for (let i = 0; i < count; i++) {
        const operation = newId("op");
        await sending.publish("pack.build", `${operation}.1`, { v: 1, operation_id: operation });
        sent.push(operation);
      }
    };
    const got = new Set<string>();
    await send(5);
    await taking.consume(
      ["pack.build"],
      { slots: 1 },
      async ({ operation_id }) => void got.add(operation_id),
    );
    for (const server of servers.slice(0, KILLED)) {
      await server.kill();
      await send(5);
      await waitFor(() => sent.every((operation) => got.has(operation)), {
        what: "all messages without one server",
        timeoutMs: 60_000,
      });
      await server.restart();
      // The next one is killed only after this one has caught up.
      await waitFor(
        () =>
          send(1).then(
            () => sent.every((operation) => got.has(operation)),
            () => false,
          ),
        { what: "three servers", timeoutMs: 60_000, everyMs: 200 },
      );
    }
    expect(got.size).toBe(sent.length);
    await taking.close();
    await sending.close();
    await Promise.all([boss.close(), worker.close()]);
  } finally {
    await Promise.all(servers.map((server) => server.stop()));
    rmSync(directory, { recursive: true });
  }
}, 180_000);
