// What every test of workers needs: a real store, queue and artifacts in a temporary directory, workers on
// them, and ways to wait for a state.

import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Artifacts } from "@formation-mcp/artifacts";
import { openDirectoryArtifacts } from "@formation-mcp/artifacts/directory";
import { hasEnded, type Id, type Instance, type Operation } from "@formation-mcp/contract";
import type { Store } from "@formation-mcp/operations";
import { openSqliteStore } from "@formation-mcp/operations/sqlite";
import { waitFor } from "@formation-mcp/os";
import {
  createWorker,
  type NodeIdentity,
  type Worker,
  type WorkerOptions,
  type WorkerSettings,
} from "@formation-mcp/pack-manager";
import type { Queue } from "@formation-mcp/queue";
import { openEmbeddedQueue } from "@formation-mcp/queue/embedded";
import { type Requests, requests } from "./requests.ts";
import type { ScriptedBuilder, ScriptedHypervisor } from "./scripted-drivers.ts";
import { sharedArtifacts } from "./shared-artifacts.ts";

const WAIT_MS = 20_000;

/** A node with scripted drivers. Options that are absent have the same values for all workers. */
export type TestWorkerOptions = {
  node: Partial<NodeIdentity> & Pick<NodeIdentity, "id">;
  builder: ScriptedBuilder;
  hypervisor: ScriptedHypervisor;
  settings?: Partial<WorkerSettings>;
} & Partial<Omit<WorkerOptions, "node" | "builder" | "hypervisor" | "settings">>;

export interface TestBed extends AsyncDisposable {
  directory: string;
  store: Store;
  queue: Queue;
  artifacts: Artifacts;
  ask: Requests;
  /** Starts a worker. It is stopped when the test bed is disposed. */
  startWorker(hand: TestWorkerOptions): Promise<Worker>;
  ended(operation: Operation): Promise<Operation>;
  reaches(operation: Operation, what: (operation: Operation) => boolean): Promise<Operation>;
  until(id: Id<"vm">, what: (instance: Instance) => boolean): Promise<Instance>;
}

/** @param shared whether the artifacts count as shared by many nodes. */
export async function openTestBed({ shared }: { shared: boolean }): Promise<TestBed> {
  const directory = await mkdtemp(join(tmpdir(), "pack-manager-"));
  const store = await openSqliteStore({ path: join(directory, "store.db") });
  const queue = await openEmbeddedQueue({ path: join(directory, "queue.db") });
  const kept = await openDirectoryArtifacts({ path: join(directory, "artifacts") });
  const artifacts = shared ? sharedArtifacts(kept) : kept;
  const workers: Worker[] = [];
  const reaches: TestBed["reaches"] = ({ id }, what) =>
    until(`operation ${id}`, () => store.operation(null, id), what);
  return {
    directory,
    store,
    queue,
    artifacts,
    ask: requests(store, queue),
    async startWorker({ node, settings, ...options }) {
      const worker = createWorker({
        store,
        queue,
        artifacts,
        scratchDir: join(directory, node.id),
        ...options,
        node: {
          name: "here",
          labels: {},
          capacity: { vcpus: 4, memory_mb: 4096, disk_gb: 100 },
          engine: { builder: "scripted", hypervisor: "scripted", accelerator: "tcg", profile: "user" },
          pid: process.pid,
          program: "1.0.0",
          ...node,
        },
        settings: { retryBaseMs: 10, stopMs: 500, batchMs: 20, ...settings },
      });
      workers.push(worker);
      await worker.start();
      return worker;
    },
    ended: (operation) => reaches(operation, hasEnded),
    reaches,
    until: (id, what) => until(`instance ${id}`, () => store.instance(null, id), what),
    async [Symbol.asyncDispose]() {
      await Promise.all(workers.map((worker) => worker.stop()));
      await queue.close();
      await artifacts.close();
      await store.close();
      await rm(directory, { recursive: true, force: true });
    },
  };
}

function until<T>(name: string, read: () => Promise<T>, what: (value: T) => boolean): Promise<T> {
  return waitFor(
    async () => {
      const value = await read();
      return what(value) ? { value } : null;
    },
    { timeoutMs: WAIT_MS, everyMs: 10, what: name },
  ).then(({ value }) => value);
}
