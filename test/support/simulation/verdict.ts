// What must be true after the faults: every operation has ended with a reason, and the records of every
// instance match its host exactly.

import { type Instance, LIMITS, type Operation } from "@formation-mcp/contract";
import type { Store } from "@formation-mcp/operations";
import { fileCount } from "./files.ts";
import type { Host } from "./host.ts";
import { KEPT, type SimulatedNode } from "./nodes.ts";
import { trueTime } from "./time.ts";
import type { Truth } from "./truth.ts";
import type { Ledger } from "./watch.ts";

/** Every item of a listing of all owners. */
export async function every<T>(
  page: (cursor: string | null) => Promise<{ items: T[]; cursor: string | null }>,
): Promise<T[]> {
  const found: T[] = [];
  for (let cursor: string | null = null; ; ) {
    const { items, cursor: next }: { items: T[]; cursor: string | null } = await page(cursor);
    found.push(...items);
    if (next === null) return found;
    cursor = next;
  }
}

const all = { owner: null, limit: LIMITS.pageSize };

export function unfinished(store: Store): Promise<Operation[]> {
  return every((cursor) => store.operations({ ...all, states: ["queued", "running"], cursor }));
}

/** The differences that must disappear soon after the repair; empty once they have. */
export async function disagreements(store: Store, nodes: SimulatedNode[]): Promise<string[]> {
  const hosts = new Map(nodes.map(({ id, host }) => [id as string, host]));
  const instances = await every((cursor) => store.instances({ ...all, cursor }));
  const found = instances.flatMap((instance) => disagreement(instance, hosts.get(instance.node_id ?? "")));
  const known = new Set(instances.map(({ machine_id }) => machine_id));
  for (const { name, host } of nodes) {
    for (const [id, { state }] of host.machines)
      if (!known.has(id)) found.push(`${id} is ${state} on ${name}, for nobody`);
  }
  return found;
}

function disagreement(instance: Instance, host: Host | undefined): string[] {
  const { id, state, machine_id, node_id, error } = instance;
  const machine = machine_id === null ? undefined : host?.machines.get(machine_id);
  const is = machine?.state ?? "absent";
  const say = (what: string) => [
    `${id} is ${state} on ${node_id}, its machine ${machine_id} is ${is}: ${what}`,
  ];
  if (state === "running" || state === "paused") return is === state ? [] : say("they differ");
  if (state === "stopped") return is === "stopped" || is === "created" ? [] : say("they differ");
  if (state === "failed")
    return error === null ? say("no reason is given") : is === "running" ? say("it runs") : [];
  return say("no state to stay in");
}

/** What must be true after every history. */
export async function judge(
  store: Store,
  nodes: SimulatedNode[],
  ledger: Ledger,
  accepted: Set<string>,
  truth: Truth,
): Promise<void> {
  const operations = new Map<string, Operation>();
  for (const each of await every((cursor) => store.operations({ ...all, cursor })))
    operations.set(each.id, each);
  for (const id of accepted)
    if (!ledger.operations.has(id)) truth.offence(`${id} was accepted and is unknown`);
  for (const [id, { state, at }] of ledger.operations) {
    const kept = at + KEPT.operationKeptMs > trueTime();
    if (operations.has(id)) continue;
    if (state === "open") truth.offence(`${id} never ended and is gone`);
    else if (kept) truth.offence(`${id} ended ${state} and is gone too early`);
  }
  for (const operation of operations.values()) {
    if (!isEnded(operation)) truth.offence(`${operation.id} (${operation.input.kind}) never ended`);
  }
  for (const each of await disagreements(store, nodes)) truth.offence(each);
  for (const { name, host } of nodes) {
    if (host.building.size > 0) truth.offence(`${name} still builds`);
  }
  if (fileCount() > 0) truth.offence(`${fileCount()} files of contexts are left over`);
}

/** The result of an operation when it ends, compared with the records that it had to make. */
export async function truthful(store: Store, operation: Operation, truth: Truth): Promise<void> {
  const { id, state, error, input } = operation;
  const wrong = (what: string) => truth.offence(`${id} (${input.kind}) ${state}: ${what}`);
  if (state !== "completed" && !error?.message) return wrong("says no reason");
  if (state === "completed" && error !== null) return wrong("has an error");
  if (error?.code === "internal" || error?.message.includes("no such blob")) wrong(error.message);
  if (input.kind === "build" || input.kind === "ship") {
    const build = await store.build(null, input.build_id).catch(() => null);
    if (build?.operation_id === id) {
      const fits = state === "completed" ? ["ready"] : ["ready", "failed", "cancelled"];
      if (!fits.includes(build.state)) wrong(`its build is ${build.state}`);
    }
  }
  if (input.kind !== "ship") return;
  const deployment = await store.deployment(null, input.deployment_id);
  const fits = state === "completed" ? ["live", "superseded"] : [state];
  if (!fits.includes(deployment.state)) wrong(`its deployment is ${deployment.state}`);
}

function isEnded({ state }: Operation): boolean {
  return state !== "queued" && state !== "running";
}
