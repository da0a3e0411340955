// The metrics of a worker, and the store that counts operations for them.

import type { OperationState } from "@formation-mcp/contract";
import type { Store } from "@formation-mcp/operations";
import type { WorkerParts } from "./run-worker.ts";

/** What a worker claimed and how it ended, since its start. */
export interface OperationCounts {
  claimed: number;
  running: number;
  ended: Map<OperationState, number>;
}

/** The same store, which counts claims and outcomes. */
export function countedStore(store: Store, counts: OperationCounts): Store {
  const own: Partial<Store> = {
    async claim(request) {
      const operation = await store.claim(request);
      if (operation) {
        counts.claimed++;
        counts.running++;
      }
      return operation;
    },
    async settle(lease, outcome, changes) {
      const operation = await store.settle(lease, outcome, changes);
      counts.running = Math.max(0, counts.running - 1);
      counts.ended.set(outcome.state, (counts.ended.get(outcome.state) ?? 0) + 1);
      return operation;
    },
  };
  return new Proxy(store, {
    get(target, name) {
      const value: unknown = Reflect.get(name in own ? own : target, name, target);
      return typeof value === "function" ? value.bind(target) : value;
    },
  });
}

/**
 * The worker's metrics in Prometheus' text exposition format, version 0.0.4. `parts` is null until the worker
 * is open.
 */
export async function workerMetrics(of: {
  version: string;
  parts: WorkerParts | null;
  counts: OperationCounts;
  ready: boolean;
}): Promise<string> {
  const lines: string[] = [];
  const add = (name: string, type: "counter" | "gauge", help: string, values: [string, number][]) => {
    lines.push(`# HELP ${name} ${help}`, `# TYPE ${name} ${type}`);
    for (const [labels, value] of values) lines.push(`${name}${labels} ${value}`);
  };
  const { parts, counts } = of;
  add("formation_build_info", "gauge", "The program's version, always 1.", [
    [`{version="${of.version}"}`, 1],
  ]);
  add("formation_worker_ready", "gauge", "Whether the worker can work.", [["", of.ready ? 1 : 0]]);
  add("formation_operations_claimed_total", "counter", "Operations that this worker took.", [
    ["", counts.claimed],
  ]);
  add("formation_operations_running", "gauge", "Operations that run here.", [["", counts.running]]);
  const states = ["completed", "failed", "cancelled", "queued"] as const;
  add(
    "formation_operations_ended_total",
    "counter",
    "Attempts by how they ended; queued is given back.",
    states.map((state) => [`{state="${state}"}`, counts.ended.get(state) ?? 0]),
  );
  if (parts) {
    const { capacity } = parts.node;
    add("formation_node_capacity", "gauge", "What this node offers.", [
      ['{resource="vcpus"}', capacity.vcpus],
      ['{resource="memory_mb"}', capacity.memory_mb],
      ['{resource="disk_gb"}', capacity.disk_gb],
    ]);
    add("formation_machines", "gauge", "Machines on this node.", [
      ["", (await parts.hypervisor.list().catch(() => [])).length],
    ]);
  }
  const { user, system } = process.cpuUsage();
  add("process_cpu_seconds_total", "counter", "User and system time.", [["", (user + system) / 1e6]]);
  add("process_resident_memory_bytes", "gauge", "Resident memory.", [["", process.memoryUsage.rss()]]);
  add("process_start_time_seconds", "gauge", "When it started, since the epoch.", [
    ["", Math.round(Date.now() / 1000 - process.uptime())],
  ]);
  return `${lines.join("\n")}\n`;
}
