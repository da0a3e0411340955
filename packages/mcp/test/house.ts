// The whole system behind a server, in a directory of its own: the real store, queue, artifacts, control and
// worker, with the engines that run everything as child processes.

import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openDirectoryArtifacts } from "@formation-mcp/artifacts/directory";
import { type Control, createControl } from "@formation-mcp/control";
import { openSqliteStore } from "@formation-mcp/operations/sqlite";
import { startFakeWorker } from "@formation-mcp/pack-manager/testing/fake-worker";
import { openEmbeddedQueue } from "@formation-mcp/queue/embedded";
import type { Json } from "./client.ts";

export interface House extends AsyncDisposable {
  control: Control;
  /** A worker begins to work. */
  work(): Promise<void>;
}

export async function openHouse(): Promise<House> {
  const dir = await mkdtemp(join(tmpdir(), "formation-gateway-"));
  const store = await openSqliteStore({ path: join(dir, "store.db") });
  const queue = await openEmbeddedQueue({ path: join(dir, "queue.db") });
  const artifacts = await openDirectoryArtifacts({ path: join(dir, "artifacts") });
  const closing: (() => Promise<void>)[] = [];
  return {
    control: createControl({ store, queue, artifacts }),
    async work() {
      closing.push(await startFakeWorker(dir, { store, queue, artifacts }));
    },
    async [Symbol.asyncDispose]() {
      for (const close of closing) await close();
      await queue.close();
      await artifacts.close();
      await store.close();
      await rm(dir, { recursive: true, force: true });
    },
  };
}

/**
 * A formfile whose workload answers on a port that is free now: the engines here use the host's own ports.
 */
export async function hello(port: number): Promise<Json> {
  const program = [
    'console.log("up");',
    'const answer = (request, response) => { console.log(request.url); response.end("hello"); };',
    `require("node:http").createServer(answer).listen(${port});`,
  ].join("");
  return {
    from: "busybox",
    name: "hello",
    include: ["greeting.txt"],
    run: ["test -f greeting.txt && echo built"],
    entrypoint: [process.execPath, "-e", program],
    expose: [port],
  };
}
