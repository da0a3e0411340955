// Several workers on one store, queue and artifacts. Each is a node with drivers of its own, and can be cut
// off from the store.

import { FormationError, type Id, newId } from "@formation-mcp/contract";
import { startDrainer } from "@formation-mcp/control";
import type { Store } from "@formation-mcp/operations";
import type { NodeIdentity, WorkerSettings } from "@formation-mcp/pack-manager";
import {
  type ScriptedBuilder,
  type ScriptedHypervisor,
  scriptedBuilder,
  scriptedHypervisor,
} from "./scripted-drivers.ts";
import { openTestBed, type TestBed } from "./test-bed.ts";

/** An interval that no test reaches: everything in it is caused by a wake-up or an event. */
const NEVER_MS = 3_600_000;

interface Member {
  id: Id<"node">;
  builder: ScriptedBuilder;
  hypervisor: ScriptedHypervisor;
  /** How often it asked the store for work. */
  claims: number;
  /** Cuts the node off from the store, or connects it again. */
  cut(off: boolean): void;
}

export interface Fleet extends Omit<TestBed, "startWorker"> {
  join(node?: Partial<NodeIdentity>, settings?: Partial<WorkerSettings>): Promise<Member>;
  /** Creates a VM that runs on this node. */
  live(member: Member, name?: string): Promise<Id<"vm">>;
}

/** Settings with a short lease and a short time that a node may be silent. */
export const QUICK = { leaseMs: 900, heartbeatEveryMs: 100, nodeSilentMs: 600, reconcileEveryMs: 200 };

export async function openFleet(): Promise<Fleet> {
  const { startWorker, ...bed } = await openTestBed({ shared: true });
  const { store, ask } = bed;
  const members: Member[] = [];
  const { queue, artifacts } = bed;
  const drainer = startDrainer({ store, queue, artifacts, everyMs: 50 });
  return {
    ...bed,
    async join(node = {}, settings = {}) {
      const [builder, hypervisor] = [scriptedBuilder(), scriptedHypervisor()];
      const id = node.id ?? newId("node");
      let off = false;
      const member: Member = {
        id,
        builder,
        hypervisor,
        claims: 0,
        cut: (cut) => {
          off = cut;
        },
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
      members.push(member);
      await startWorker({
        node: { name: `node-${members.length}`, ...node, id },
        store: seen,
        builder,
        hypervisor,
        settings: { pollEveryMs: NEVER_MS, sweepEveryMs: NEVER_MS, ...settings },
      });
      return member;
    },
    async live(member, name) {
      const others = (await store.nodes()).filter(({ id, cordoned }) => id !== member.id && !cordoned);
      for (const { id } of others) await store.setNodeScheduling(id, { cordoned: true, drain: null });
      const { instance, operation } = await ask.create({}, name);
      const ended = await bed.ended(operation);
      for (const { id } of others) await store.setNodeScheduling(id, { cordoned: false, drain: null });
      const record = await store.instance(null, instance);
      if (record.node_id !== member.id)
        throw new Error(`It is elsewhere: ${JSON.stringify([ended, record])}`);
      return instance;
    },
    async [Symbol.asyncDispose]() {
      for (const member of members) member.cut(false);
      await drainer.close();
      await bed[Symbol.asyncDispose]();
    },
  };
}
