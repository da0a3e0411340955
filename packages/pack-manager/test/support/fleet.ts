// Several workers, each a node of its own with its own engines, on one store, queue and artifacts; each can be cut off from
// the store for a while.

import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openDirectoryArtifacts } from "@formation-mcp/artifacts/directory";
import {
  FormationError,
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
  type NodeIdentity,
  type Worker,
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
import { sharedArtifacts } from "./shared.ts";

const WAIT_MS = 20_000;
/** So long that nothing in a test happens because of it: what happens, a wake-up or an event brought about. */
const NEVER_MS = 3_600_000;

interface Member {
  id: Id<"node">;
  worker: Worker;
  builder: ScriptedBuilder;
  hypervisor: ScriptedHypervisor;
  /** How often it asked the store for work. */
  claims: number;
  /** Cuts it off from the store, or connects it again. */
  cut(off: boolean): void;
}

export interface Fleet extends AsyncDisposable {
  store: Store;
  queue: Queue;
  ask: Requests;
  join(node?: Partial<NodeIdentity>, settings?: Partial<WorkerSettings>): Promise<Member>;
  ended(operation: Operation): Promise<Operation>;
  until(id: Id<"vm">, what: (instance: Instance) => boolean): Promise<Instance>;
  /** A VM that runs on this node. */
  live(member: Member, name?: string): Promise<Id<"vm">>;
}

/** A lease, and how long a node may be silent. */
export const QUICK = { leaseMs: 900, heartbeatEveryMs: 100, nodeSilentMs: 600, reconcileEveryMs: 200 };

export async function openFleet(): Promise<Fleet> {
  const directory = await mkdtemp(join(tmpdir(), "pack-manager-fleet-"));
  const store = await openSqliteStore({ path: join(directory, "store.db") });
  const queue = await openEmbeddedQueue({ path: join(directory, "queue.db") });
  const kept = await openDirectoryArtifacts({ path: join(directory, "artifacts") });
  const artifacts = sharedArtifacts(kept);
  const ask = requests(store, queue);
  const members: Member[] = [];
  const fleet: Fleet = {
    store,
    queue,
    ask,
    async join(node = {}, settings = {}) {
      const [builder, hypervisor] = [scriptedBuilder(), scriptedHypervisor()];
      let off = false;
      const member: Member = {
        id: node.id ?? newId("node"),
        builder,
        hypervisor,
        claims: 0,
        cut: (cut) => {
          off = cut;
        },
        worker: undefined as unknown as Worker,
      };
      const seen = new Proxy(store, {
        get(target, name: keyof Store) {
          const value = target[name];
          if (typeof value !== "function" || name === "revision") return value;
          return (...given: unknown[]) => {
            if (off) return Promise.reject(new FormationError("unavailable", "Cut off."));
            if (name === "claim") member.claims += 1;
            return (value as (...given: unknown[]) => unknown)(...given);
          };
        },
      });
      member.worker = createWorker({
        store: seen,
        queue,
        artifacts,
        builder,
        hypervisor,
        scratchDir: join(directory, member.id),
        node: {
          name: `node-${members.length + 1}`,
          labels: {},
          capacity: { vcpus: 4, memory_mb: 4096, disk_gb: 100 },
          engine: { builder: "scripted", hypervisor: "scripted", accelerator: "tcg", profile: "user" },
          pid: process.pid,
          program: "1.0.0",
          ...node,
          id: member.id,
        },
        settings: {
          retryBaseMs: 10,
          stopMs: 500,
          batchMs: 20,
          pollEveryMs: NEVER_MS,
          sweepEveryMs: NEVER_MS,
          ...settings,
        },
      });
      members.push(member);
      await member.worker.start();
      return member;
    },
    ended: (operation) =>
      waitFor(
        async () => {
          const read = await store.operation(null, operation.id);
          return isFinal(OPERATION_STATES, read.state) ? read : null;
        },
        { timeoutMs: WAIT_MS, everyMs: 10, what: `operation ${operation.id}` },
      ),
    until: (id, what) =>
      waitFor(
        async () => {
          const read = await store.instance(null, id);
          return what(read) ? read : null;
        },
        { timeoutMs: WAIT_MS, everyMs: 10, what: `instance ${id}` },
      ),
    async live(member, name) {
      const { items } = { items: await store.nodes() };
      const others = items.filter(({ id, cordoned }) => id !== member.id && !cordoned);
      for (const { id } of others) await store.steerNode(id, { cordoned: true, drain: null });
      const { instance, operation } = await ask.create({}, name);
      const ended = await fleet.ended(operation);
      for (const { id } of others) await store.steerNode(id, { cordoned: false, drain: null });
      const record = await store.instance(null, instance);
      if (record.node_id !== member.id)
        throw new Error(`It is elsewhere: ${JSON.stringify([ended, record])}`);
      return instance;
    },
    async [Symbol.asyncDispose]() {
      for (const member of members) member.cut(false);
      await Promise.all(members.map(({ worker }) => worker.stop()));
      await queue.close();
      await artifacts.close();
      await store.close();
      await rm(directory, { recursive: true, force: true });
    },
  };
  return fleet;
}
