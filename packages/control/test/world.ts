// The fixture of these tests: a real store, queue and artifacts in a temporary directory, and a fake worker
// that ends operations as a test tells it to.

import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Artifacts } from "@formation-mcp/artifacts";
import { openDirectoryArtifacts } from "@formation-mcp/artifacts/directory";
import { allScopes, type Principal } from "@formation-mcp/auth";
import {
  type Build,
  type Clock,
  controlSubject,
  type ErrorRecord,
  FormationError,
  type NodeRecord,
  newId,
  type Operation,
  SUBJECTS,
} from "@formation-mcp/contract";
import { type Control, type ControlOptions, createControl } from "@formation-mcp/control";
import type { Changes, Lease, Outcome, Store } from "@formation-mcp/operations";
import { openSqliteStore } from "@formation-mcp/operations/sqlite";
import type { Queue } from "@formation-mcp/queue";
import { openEmbeddedQueue } from "@formation-mcp/queue/embedded";
import { findTool } from "@formation-mcp/tools";

export type Json = Record<string, unknown>;

export interface World extends AsyncDisposable {
  dir: string;
  store: Store;
  queue: Queue;
  artifacts: Artifacts;
  control: Control;
  worker: Worker;
  /** Calls a tool, as Alice by default. Without `wait_seconds` the call does not wait. */
  call(tool: string, input?: Json, principal?: Principal): Promise<Json>;
  /** Calls a tool and returns the error that it must throw. */
  refused(tool: string, input?: Json, principal?: Principal): Promise<FormationError>;
}

export const ALICE: Principal = { owner: "alice", scopes: allScopes(), local: true };
export const BOB: Principal = { owner: "bob", scopes: allScopes(), local: true };
export const ROOT: Principal = { owner: "root", scopes: new Set(["admin"]), local: false };

type Drivers = Pick<ControlOptions, "store" | "queue" | "artifacts">;

/**
 * Opens the fixture. `options` may be a function of the drivers; the caller closes what it makes over them.
 */
export async function openWorld(
  options: Partial<ControlOptions> | ((drivers: Drivers) => Partial<ControlOptions>) = {},
  { clock }: { clock?: Clock } = {},
): Promise<World> {
  const dir = await mkdtemp(join(tmpdir(), "formation-control-"));
  const store = await openSqliteStore({ path: join(dir, "store.db"), ...(clock ? { clock } : {}) });
  const queue = await openEmbeddedQueue({ path: join(dir, "queue.db") });
  const artifacts = await openDirectoryArtifacts({ path: join(dir, "artifacts") });
  const drivers = { store, queue, artifacts };
  const control = createControl({
    ...drivers,
    ...(typeof options === "function" ? options(drivers) : options),
  });
  const worker = new Worker(store, queue, artifacts);
  await worker.register();
  const call: World["call"] = (tool, input = {}, principal = ALICE) =>
    control.call(principal, tool, waits(tool, input));
  return {
    dir,
    store,
    queue,
    artifacts,
    control,
    worker,
    call,
    async refused(tool, input, principal) {
      const said = await call(tool, input, principal).catch((error: unknown) => error);
      if (said instanceof FormationError) return said;
      throw new Error(`${tool} should have been refused, but: ${JSON.stringify(said)}`);
    },
    async [Symbol.asyncDispose]() {
      await worker.stop();
      await queue.close();
      await artifacts.close();
      await store.close();
      await rm(dir, { recursive: true, force: true });
    },
  };
}

/** Sets `wait_seconds` to 0 for tools that have it, unless the test sets it. */
function waits(name: string, input: Json): Json {
  const takes = Object.keys(findTool(name)?.input.shape ?? {}).includes("wait_seconds");
  return takes && !("wait_seconds" in input) ? { ...input, wait_seconds: 0 } : input;
}

/** What the fake worker does with an operation; by default it completes it. */
type Plan = (operation: Operation, lease: Lease) => Promise<{ outcome: Outcome; changes?: Changes }>;

/** A fake worker: claims and settles operations, without building or running anything. */
class Worker {
  readonly node = newId("node");
  /** The address that its machines' ports are bound to. */
  bound = "127.0.0.1";
  /** The plan for the operations claimed from now on. */
  plan: Plan = (operation) => this.complete(operation);
  readonly #store: Store;
  readonly #queue: Queue;
  readonly #artifacts: Artifacts;
  #running = true;
  #loop: Promise<void> = Promise.resolve();

  constructor(store: Store, queue: Queue, artifacts: Artifacts) {
    this.#store = store;
    this.#queue = queue;
    this.#artifacts = artifacts;
  }

  async register(): Promise<NodeRecord> {
    return this.#store.registerNode({
      id: this.node,
      name: "test",
      labels: {},
      capacity: { vcpus: 64, memory_mb: 65_536, disk_gb: 4096 },
      engine: { builder: "none", hypervisor: "none", accelerator: "tcg", profile: "user" },
      pid: process.pid,
      program: "test",
      draining: false,
    });
  }

  /** Works in the background until stopped. */
  start(): void {
    this.#running = true;
    this.#loop = (async () => {
      while (this.#running) {
        if (!(await this.step())) await new Promise((resolve) => setTimeout(resolve, 10));
      }
    })();
  }

  async stop(): Promise<void> {
    this.#running = false;
    await this.#loop;
  }

  /** Handles one operation, if there is one. */
  async step(): Promise<Operation | null> {
    const operation = await this.#store.claim({
      node_id: this.node,
      subjects: [SUBJECTS.build, SUBJECTS.ship, controlSubject(this.node)],
      free: { vcpus: 64, memory_mb: 65_536, disk_gb: 4096 },
      leaseMs: 30_000,
    });
    if (!operation) return null;
    const lease = { operation_id: operation.id, attempt: operation.attempt, node_id: this.node };
    await this.#begin(operation, lease);
    const { outcome, changes } = await this.plan(operation, lease);
    const settled = await this.#store.settle(lease, outcome, changes);
    await this.#queue.emit({ v: 1, id: operation.id, owner: operation.owner });
    return settled;
  }

  report(lease: Lease, step: string, fraction: number | null): Promise<void> {
    return this.#store.report(lease, { step, message: `Doing ${step}.`, fraction });
  }

  log(name: string, lines: string[], stream = "stdout"): Promise<void> {
    return this.#artifacts.appendLog(
      name,
      lines.map((text) => ({ at: Date.now(), stream, text })),
    );
  }

  async #begin({ owner, input }: Operation, lease: Lease): Promise<void> {
    if (input.kind === "build" || input.kind === "ship") {
      const build = await this.#store.build(owner, input.build_id);
      const builds =
        build.state === "queued" ? [{ id: build.id, patch: { state: "building" } as const }] : [];
      const deployments =
        input.kind === "ship" ? [{ id: input.deployment_id, patch: { state: "deploying" } as const }] : [];
      await this.#store.apply(lease, { builds, deployments });
    }
  }

  fail(error: ErrorRecord): Plan {
    return async ({ input }) => {
      if (input.kind === "build") {
        const patch = { state: "failed", error, ended_at: Date.now() } as const;
        return { outcome: { state: "failed", error }, changes: { builds: [{ id: input.build_id, patch }] } };
      }
      if (input.kind === "ship") {
        const patch = { state: "failed", error, ended_at: Date.now() } as const;
        return {
          outcome: { state: "failed", error },
          changes: {
            deployments: [{ id: input.deployment_id, patch }],
            instances: [{ id: input.instance_id, patch: { state: "failed", error } }],
          },
        };
      }
      return { outcome: { state: "failed", error } };
    };
  }

  async complete({ owner, input }: Operation): Promise<{ outcome: Outcome; changes: Changes }> {
    const outcome = { state: "completed" } as const;
    const now = Date.now();
    if (input.kind === "build")
      return {
        outcome,
        changes: { builds: [this.#built(await this.#store.build(owner, input.build_id), now)] },
      };
    const instance = await this.#store.instance(owner, input.instance_id);
    if (input.kind === "ship") {
      const build = await this.#store.build(owner, input.build_id);
      const deployment = await this.#store.deployment(owner, input.deployment_id);
      return {
        outcome,
        changes: {
          builds: build.state === "ready" ? [] : [this.#built(build, now)],
          deployments: [{ id: deployment.id, patch: { state: "live", ended_at: now } }],
          instances: [
            {
              id: instance.id,
              patch: {
                state: "running",
                node_id: this.node,
                deployment_id: deployment.id,
                machine_id: `${deployment.id}.1`,
                build_id: build.id,
                config: deployment.config,
                observed: {
                  accelerator: "tcg",
                  endpoints: build.formfile.expose.map((guest_port) => ({
                    guest_port,
                    address: this.bound,
                    port: deployment.config.host_ports[guest_port] ?? 40_000 + (guest_port % 1000),
                    listening: true,
                  })),
                  egress: { mode: "none", reason: "no network here" },
                  exit_code: null,
                  started_at: now,
                  seen_at: now,
                },
              },
            },
          ],
        },
      };
    }
    const state = input.kind === "delete" ? "deleted" : STATE_AFTER[input.action];
    return { outcome, changes: { instances: [{ id: instance.id, patch: { state } }] } };
  }

  #built(build: Build, now: number): NonNullable<Changes["builds"]>[number] {
    return {
      id: build.id,
      patch: {
        state: "ready",
        node_id: this.node,
        started_at: now,
        ended_at: now,
        image: {
          digest: `sha256:${"0".repeat(64)}`,
          bytes: 1234,
          process: { argv: ["/bin/true"], env: {}, workdir: "/", user: "" },
          expose: build.formfile.expose,
          base: { reference: "busybox", digest: `sha256:${"1".repeat(64)}` },
        },
      },
    };
  }
}

const STATE_AFTER = {
  start: "running",
  stop: "stopped",
  restart: "running",
  pause: "paused",
  resume: "running",
} as const;

/** Polls until a condition holds. */
export async function until(holds: () => Promise<boolean> | boolean, limitMs = 5000): Promise<void> {
  const end = performance.now() + limitMs;
  while (!(await holds())) {
    if (performance.now() > end) throw new Error("it never held");
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}
