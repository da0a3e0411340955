// A worker over the real store, queue and artifacts in a directory of their own, with engines that a test scripts.

import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Artifacts } from "@formation-mcp/artifacts";
import { openDirectoryArtifacts } from "@formation-mcp/artifacts/directory";
import {
  type Id,
  type Instance,
  isFinal,
  newId,
  OPERATION_STATES,
  type Operation,
} from "@formation-mcp/contract";
import type { Store } from "@formation-mcp/operations";
import { openSqliteStore } from "@formation-mcp/operations/sqlite";
import { waitFor } from "@formation-mcp/os";
import {
  createWorker,
  type Worker,
  type WorkerOptions,
  type WorkerSettings,
} from "@formation-mcp/pack-manager";
import type { Queue } from "@formation-mcp/queue";
import { openEmbeddedQueue } from "@formation-mcp/queue/embedded";
import { type Requests, requests } from "./requests.ts";
import {
  type ScriptedBuilder,
  type ScriptedHypervisor,
  scriptedBuilder,
  scriptedHypervisor,
} from "./scripted.ts";

const WAIT_MS = 15_000;

export interface Lab extends AsyncDisposable {
  directory: string;
  store: Store;
  queue: Queue;
  artifacts: Artifacts;
  builder: ScriptedBuilder;
  hypervisor: ScriptedHypervisor;
  node: Id<"node">;
  ask: Requests;
  /** Starts a worker; the former one must be stopped. */
  worker(
    options?: Partial<Omit<WorkerOptions, "settings">> & { settings?: Partial<WorkerSettings> },
  ): Promise<Worker>;
  /** What a killed worker leaves: its operations run on in the record alone. */
  ended(operation: Operation): Promise<Operation>;
  reaches(operation: Operation, what: (operation: Operation) => boolean): Promise<Operation>;
  instance(id: Id<"vm">): Promise<Instance>;
  until(id: Id<"vm">, what: (instance: Instance) => boolean): Promise<Instance>;
  log(name: string): Promise<string[]>;
}

export async function openLab(): Promise<Lab> {
  const directory = await mkdtemp(join(tmpdir(), "pack-manager-"));
  const store = await openSqliteStore({ path: join(directory, "store.db") });
  const queue = await openEmbeddedQueue({ path: join(directory, "queue.db") });
  const artifacts = await openDirectoryArtifacts({ path: join(directory, "artifacts") });
  const builder = scriptedBuilder();
  const hypervisor = scriptedHypervisor();
  const node = newId("node");
  const workers: Worker[] = [];
  const lab: Lab = {
    directory,
    store,
    queue,
    artifacts,
    builder,
    hypervisor,
    node,
    ask: requests(store, queue),
    async worker({ settings, ...options } = {}) {
      const worker = createWorker({
        store,
        queue,
        artifacts,
        builder,
        hypervisor,
        scratchDir: join(directory, "scratch"),
        node: {
          id: node,
          name: "here",
          labels: {},
          capacity: { vcpus: 16, memory_mb: 4096, disk_gb: 100 },
          engine: { builder: "scripted", hypervisor: "scripted", accelerator: "tcg", profile: "user" },
          pid: process.pid,
          program: "1.0.0",
        },
        settings: { retryBaseMs: 10, stopMs: 500, batchMs: 20, pollEveryMs: 500, ...settings },
        ...options,
      });
      workers.push(worker);
      await worker.start();
      return worker;
    },
    ended: (operation) => lab.reaches(operation, (read) => isFinal(OPERATION_STATES, read.state)),
    reaches: (operation, what) =>
      waitFor(
        async () => {
          const read = await store.operation(null, operation.id);
          return what(read) ? read : null;
        },
        { timeoutMs: WAIT_MS, everyMs: 10, what: `operation ${operation.id}` },
      ),
    instance: (id) => store.instance(null, id),
    until: (id, what) =>
      waitFor(
        async () => {
          const read = await store.instance(null, id);
          return what(read) ? read : null;
        },
        { timeoutMs: WAIT_MS, everyMs: 10, what: `instance ${id}` },
      ),
    async log(name) {
      const page = await artifacts.readLog(name, { maxBytes: 100_000 });
      return page.lines.map((line) => line.text);
    },
    async [Symbol.asyncDispose]() {
      for (const worker of workers) await worker.stop();
      await queue.close();
      await artifacts.close();
      await store.close();
      await rm(directory, { recursive: true, force: true });
    },
  };
  return lab;
}
