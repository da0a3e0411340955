// The store with a watcher: submissions, claims and ends go into the ledger, and an impossible history is
// reported at once.

import type { Operation, Quota } from "@formation-mcp/contract";
import type { InstancePatch, Store } from "@formation-mcp/operations";
import { trueTime } from "./time.ts";
import type { Truth } from "./truth.ts";
import { truthful } from "./verdict.ts";

type Ended = "completed" | "failed" | "cancelled";

export interface Ledger {
  /** Every operation that was written, with its end. */
  readonly operations: Map<string, { state: "open" | Ended; at: number }>;
  /** The number of attempts begun. */
  claims: number;
}

const RESOURCES = ["vcpus", "memory_mb", "disk_gb", "instances", "builds"] as const;

export function watched(store: Store, truth: Truth, quota: Quota): { store: Store; ledger: Ledger } {
  const ledger: Ledger = { operations: new Map(), claims: 0 };
  const keys = new Map<string, string>();
  const end = async (operation: Operation) => {
    const { id } = operation;
    const state = operation.state as Ended;
    const before = ledger.operations.get(id)?.state;
    if (before !== "open") truth.offence(`${id} was ${before} and ended again as ${state}`);
    ledger.operations.set(id, { state, at: trueTime() });
    truth.count(`operations ${state}`);
    await truthful(store, operation, truth);
  };
  const endOthers = async (target: Operation["target_id"]) => {
    const { items } = await store.operations({ owner: null, target, states: ["cancelled"], limit: 50 });
    for (const other of items) if (ledger.operations.get(other.id)?.state === "open") await end(other);
  };
  const eye: Partial<Store> = {
    async submit(submission) {
      const { operation, idempotency, deployment, instance } = submission;
      if (deployment) truth.deploymentOf(deployment.id, deployment.instance_id);
      const result = await store.submit(submission);
      const { owner, tool, id, input } = result.operation;
      if (idempotency) {
        const key = `${owner} ${operation.tool} ${idempotency.key}`;
        const first = keys.get(key) ?? id;
        keys.set(key, first);
        if (first !== id) truth.offence(`${key} made ${first} and ${id}`);
      }
      if (result.replayed) return result;
      ledger.operations.set(id, { state: "open", at: trueTime() });
      truth.count(`asked: ${tool}`);
      if (input.kind !== "build") truth.note(input.instance_id, `${id} asked: ${JSON.stringify(input)}`);
      if (result.operation.state !== "queued") await end(result.operation);
      if (submission.cancelOthers) await endOthers(result.operation.target_id);
      if (instance || deployment) await checkQuota(owner);
      return result;
    },
    async claim(request) {
      const taken = await store.claim(request);
      if (!taken) return taken;
      ledger.claims++;
      if (ledger.operations.get(taken.id)?.state !== "open")
        truth.offence(`${taken.id} was claimed after its end`);
      if (taken.attempt > 3) truth.offence(`${taken.id} has ${taken.attempt} attempts`);
      const { free } = request;
      note(
        taken,
        `claimed by ${request.node_id.slice(-6)}, attempt ${taken.attempt}: needs ${JSON.stringify(taken.needs)} of ${JSON.stringify(free)}`,
      );
      return taken;
    },
    async apply(lease, changes) {
      await store.apply(lease, changes);
      for (const { id, patch } of changes.instances ?? []) moved(id, `attempt ${lease.attempt}`, patch);
    },
    async observe(id, version, patch) {
      const seen = await store.observe(id, version, patch);
      moved(id, "observed", patch);
      return seen;
    },
    async settle(lease, outcome, changes) {
      const settled = await store.settle(lease, outcome, changes);
      for (const { id, patch } of changes?.instances ?? []) moved(id, "settled", patch);
      note(settled, `${outcome.state} -> ${settled.state}: ${settled.error?.message ?? ""}`);
      if (settled.state !== "queued") await end(settled);
      return settled;
    },
    async requestCancel(owner, id) {
      const cancelled = await store.requestCancel(owner, id);
      if (cancelled.state === "cancelled" && ledger.operations.get(id)?.state === "open")
        await end(cancelled);
      return cancelled;
    },
    async markLost(silentMs) {
      const lost = await store.markLost(silentMs);
      for (const { id } of lost) truth.note(id, "is lost");
      truth.count("instances lost", lost.length);
      return lost;
    },
    async sweep(options) {
      const swept = await store.sweep(options);
      for (const operation of swept.changed) {
        note(operation, `swept: ${operation.state}: ${operation.error?.message ?? ""}`);
        if (operation.ended_at !== null) await end(operation);
      }
      truth.count("wake-ups sent again", swept.resend.length);
      truth.count("operations expired", swept.removedOperations);
      truth.count("builds expired", swept.removedBuilds.length);
      return swept;
    },
    async removeNode(id, options) {
      const gone = await store.removeNode(id, options);
      for (const instance of gone.instances)
        truth.note(instance.id, `${id.slice(-6)} removed: ${instance.state}`);
      for (const operation of gone.operations) {
        note(operation, `its node removed: ${operation.state}: ${operation.error?.message ?? ""}`);
        if (operation.ended_at !== null) await end(operation);
      }
      return gone;
    },
  };
  const note = ({ id, input }: { id: string; input: { kind: string } }, what: string) => {
    if ("instance_id" in input) truth.note(String(input.instance_id), `${id} ${what}`);
    else truth.note(id, what);
  };
  const moved = (id: string, who: string, { state, node_id, machine_id }: InstancePatch) => {
    if (state ?? node_id ?? machine_id)
      truth.note(id, `${who}: ${JSON.stringify({ state, node_id: node_id?.slice(-6), machine_id })}`);
  };
  const checkQuota = async (owner: string) => {
    const used = await store.usage(owner);
    for (const what of RESOURCES) {
      const limit = quota[what];
      if (limit !== null && used[what] > limit)
        truth.offence(`${owner} has ${used[what]} ${what} of ${limit}`);
    }
  };
  return {
    store: new Proxy(store, { get: (target, name) => Reflect.get(eye, name) ?? Reflect.get(target, name) }),
    ledger,
  };
}
