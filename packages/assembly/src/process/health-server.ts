// What a worker shows of itself over HTTP: whether it lives, whether it can work and what it lacks, and its numbers for
// Prometheus. Nothing else is served: no caller can change anything here.

import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { FormationError, type Logger, type OperationState } from "@formation-mcp/contract";
import type { Store } from "@formation-mcp/operations";
import type { WorkerParts } from "./run-worker.ts";

export interface HealthServer {
  /** Where it listens, `host:port`. */
  readonly address: string;
  /** Takes what the worker works with; the store that it returns counts what the worker claims and settles. */
  attend(parts: WorkerParts): Store;
  said(state: "ready" | "leaving"): void;
  close(): Promise<void>;
}

const LIMIT_MS = 5000;
const FRESH_MS = 1000;
const JSON_TYPE = "application/json; charset=utf-8";
const METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8";

/** @throws FormationError `unavailable` if nobody can listen there. */
export async function openHealth(
  where: { host: string; port: number },
  version: string,
  logger: Logger,
): Promise<HealthServer> {
  let parts: WorkerParts | null = null;
  let state: "starting" | "ready" | "leaving" = "starting";
  const counts = { claimed: 0, running: 0, ended: new Map<OperationState, number>() };
  let last: { at: number; answer: Promise<Record<string, "ok" | "failed">> } | null = null;
  const look = (seen: WorkerParts) => {
    const now = performance.now();
    if (!last || now - last.at >= FRESH_MS) last = { at: now, answer: lookAt(seen, logger) };
    return last.answer;
  };
  const ready = async () => {
    const working: "ok" | "failed" = state === "ready" ? "ok" : "failed";
    const seen = { worker: working, ...(parts && state !== "leaving" ? await look(parts) : {}) };
    return { ready: Object.values(seen).every((each) => each === "ok"), state, parts: seen };
  };
  const server = createServer((request, response) => {
    const answer = (status: number, type: string, text: string) =>
      response.writeHead(status, { "content-type": type, "cache-control": "no-store" }).end(text);
    const path = request.url?.split("?", 1)[0];
    const routes: Record<string, () => Promise<unknown>> = {
      "/health/live": async () => answer(200, JSON_TYPE, '{"live":true}\n'),
      "/health/ready": async () => {
        const told = await ready();
        if (!told.ready) response.setHeader("retry-after", "2");
        answer(told.ready ? 200 : 503, JSON_TYPE, `${JSON.stringify(told)}\n`);
      },
      "/metrics": async () =>
        answer(200, METRICS_TYPE, await numbers({ version, parts, counts, ready: (await ready()).ready })),
    };
    const route = path !== undefined && Object.hasOwn(routes, path) ? routes[path] : undefined;
    if (!route) return void answer(404, JSON_TYPE, '{"error":"not_found"}\n');
    if (request.method !== "GET" && request.method !== "HEAD")
      return void answer(405, JSON_TYPE, '{"error":"only GET"}\n');
    route().catch((error: unknown) => {
      logger.log("warn", "A question about the worker's health failed.", { error });
      response.destroy();
    });
  });
  server.headersTimeout = 5000;
  server.requestTimeout = 5000;
  server.maxConnections = 64;
  await new Promise<void>((resolve, reject) => {
    server.once("error", (error) =>
      reject(
        new FormationError("unavailable", `Nobody can listen on ${where.host}:${where.port}.`, {
          cause: error,
          remedy: "Set FORMATION_HEALTH_ADDRESS to an address of this machine and a free port.",
        }),
      ),
    );
    server.listen({ ...where, exclusive: true }, resolve);
  });
  const { address, port, family } = server.address() as AddressInfo;
  return {
    address: family === "IPv6" ? `[${address}]:${port}` : `${address}:${port}`,
    attend(opened) {
      parts = opened;
      return counted(opened.store, counts);
    },
    said(now) {
      state = now;
    },
    async close() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

interface Counts {
  claimed: number;
  running: number;
  ended: Map<OperationState, number>;
}

/** The same store; what is claimed and how it ended is counted. */
function counted(store: Store, counts: Counts): Store {
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

/** Each part is really used; what failed is named, and why stands in the log alone. */
async function lookAt(parts: WorkerParts, logger: Logger): Promise<Record<string, "ok" | "failed">> {
  const uses = {
    store: () => parts.store.node(parts.node.id),
    queue: () => parts.reachQueue(),
    artifacts: () => parts.artifacts.stat(`sha256:${"0".repeat(64)}`),
  };
  const seen = await Promise.all(
    Object.entries(uses).map(async ([name, use]): Promise<[string, "ok" | "failed"]> => {
      let timer: NodeJS.Timeout | undefined;
      const late = new Promise<never>((_, reject) => {
        timer = setTimeout(() => reject(new Error(`No answer within ${LIMIT_MS} ms.`)), LIMIT_MS);
      });
      try {
        await Promise.race([use(), late]);
        return [name, "ok"];
      } catch (error) {
        logger.log("warn", "A part of the worker does not answer.", { part: name, error });
        return [name, "failed"];
      } finally {
        clearTimeout(timer);
      }
    }),
  );
  return Object.fromEntries(seen);
}

/** The text exposition format of Prometheus, version 0.0.4. */
async function numbers(of: {
  version: string;
  parts: WorkerParts | null;
  counts: Counts;
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
