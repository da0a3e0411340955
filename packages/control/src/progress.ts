// Where an unfinished operation is; and if it still waits, why, without a word about other owners or nodes by name.

import { LIMITS, type NodeRecord, type Operation } from "@formation-mcp/contract";
import type { Resources } from "@formation-mcp/formfile";
import type { Deps } from "./deps.ts";
import { progressView } from "./views.ts";
import { hasEnded } from "./waiting.ts";

const SILENT_MS = 3 * LIMITS.leaseMs;

interface Shown {
  progress?: { step: string; message: string; fraction: number | null };
}

export async function progressOf(deps: Deps, operation: Operation): Promise<Shown> {
  if (hasEnded(operation)) return {};
  if (operation.state !== "queued") return progressView(operation.progress);
  return { progress: { step: "queued", message: await whyQueued(deps, operation), fraction: null } };
}

async function whyQueued(deps: Deps, operation: Operation): Promise<string> {
  const now = deps.clock.now();
  const nodes = await deps.store.nodes();
  const alive = nodes.filter((node) => !node.draining && now - node.heartbeat_at <= SILENT_MS);
  if (operation.error && operation.run_at > now) {
    const seconds = Math.ceil((operation.run_at - now) / 1000);
    return `Attempt ${operation.attempt} failed; it is tried again in ${seconds} s.`;
  }
  if (operation.node_id !== null && !alive.some(({ id }) => id === operation.node_id))
    return "The node that must do it is not heard of; a worker must run there.";
  if (alive.length === 0) return "No worker is running. It is done as soon as one starts.";
  const fitting = alive.filter(
    (node) => (operation.node_id ?? node.id) === node.id && fits(node, operation.needs),
  );
  if (fitting.length === 0) return tooLarge(operation.needs, alive);
  return "Waiting for a free worker, or for an earlier operation on the same VM.";
}

function fits({ capacity }: NodeRecord, needs: Resources): boolean {
  return (
    needs.vcpus <= capacity.vcpus &&
    needs.memory_mb <= capacity.memory_mb &&
    needs.disk_gb <= capacity.disk_gb
  );
}

function tooLarge(needs: Resources, nodes: readonly NodeRecord[]): string {
  const most = (key: keyof Resources) => Math.max(...nodes.map(({ capacity }) => capacity[key]));
  const short = (["vcpus", "memory_mb", "disk_gb"] as const).filter((key) => needs[key] > most(key));
  const what = short.map((key) => `${key} ${needs[key]} (at most ${most(key)})`).join(", ");
  return what === ""
    ? "No node has all that it needs. Ask for less, or cancel it."
    : `No node is large enough: it needs ${what}. Cancel it and ask for less.`;
}
