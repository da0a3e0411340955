// The health port of a worker: whether it lives, whether it can work and what it lacks, and its metrics for
// Prometheus. Nothing else is served, and no request can change anything.

import { createServer, type RequestListener, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { FormationError, type Logger } from "@formation-mcp/contract";
import type { Store } from "@formation-mcp/operations";
import { countedStore, type OperationCounts, workerMetrics } from "./health-metrics.ts";
import type { WorkerParts } from "./run-worker.ts";

export interface HealthServer {
  /** Where it listens, `host:port`. */
  readonly address: string;
  /** Is given what the worker uses; the returned store counts what the worker claims and settles. */
  observe(parts: WorkerParts): Store;
  onState(state: "ready" | "leaving"): void;
  close(): Promise<void>;
}

type Checks = Record<string, "ok" | "failed">;

const CHECK_TIMEOUT_MS = 5000;
/** Checks are made at most this often, however many requests come. */
const CHECK_EVERY_MS = 1000;
const JSON_TYPE = "application/json; charset=utf-8";
const METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8";

/** @throws FormationError `unavailable` if it can't listen there. */
export async function openHealthServer(
  where: { host: string; port: number },
  version: string,
  logger: Logger,
): Promise<HealthServer> {
  let parts: WorkerParts | null = null;
  let state: "starting" | "ready" | "leaving" = "starting";
  const counts: OperationCounts = { claimed: 0, running: 0, ended: new Map() };
  let last: { at: number; checks: Promise<Checks> } | null = null;
  const check = (of: WorkerParts) => {
    const now = performance.now();
    if (!last || now - last.at >= CHECK_EVERY_MS) last = { at: now, checks: checkParts(of, logger) };
    return last.checks;
  };
  const readiness = async () => {
    const worker: "ok" | "failed" = state === "ready" ? "ok" : "failed";
    const checks = { worker, ...(parts && state !== "leaving" ? await check(parts) : {}) };
    return { ready: Object.values(checks).every((each) => each === "ok"), state, parts: checks };
  };
  const metrics = async () => workerMetrics({ version, parts, counts, ready: (await readiness()).ready });
  const server = createServer(healthListener(readiness, metrics, logger));
  server.headersTimeout = 5000;
  server.requestTimeout = 5000;
  server.maxConnections = 64;
  await listen(server, where);
  const { address, port, family } = server.address() as AddressInfo;
  return {
    address: family === "IPv6" ? `[${address}]:${port}` : `${address}:${port}`,
    observe(opened) {
      parts = opened;
      return countedStore(opened.store, counts);
    },
    onState(now) {
      state = now;
    },
    async close() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

function healthListener(
  readiness: () => Promise<{ ready: boolean }>,
  metrics: () => Promise<string>,
  logger: Logger,
): RequestListener {
  return (request, response) => {
    const answer = (status: number, type: string, text: string) =>
      response.writeHead(status, { "content-type": type, "cache-control": "no-store" }).end(text);
    const path = request.url?.split("?", 1)[0];
    const routes: Record<string, () => Promise<unknown>> = {
      "/health/live": async () => answer(200, JSON_TYPE, '{"live":true}\n'),
      "/health/ready": async () => {
        const report = await readiness();
        if (!report.ready) response.setHeader("retry-after", "2");
        answer(report.ready ? 200 : 503, JSON_TYPE, `${JSON.stringify(report)}\n`);
      },
      "/metrics": async () => answer(200, METRICS_TYPE, await metrics()),
    };
    const route = path !== undefined && Object.hasOwn(routes, path) ? routes[path] : undefined;
    if (!route) return void answer(404, JSON_TYPE, '{"error":"not_found"}\n');
    if (request.method !== "GET" && request.method !== "HEAD")
      return void answer(405, JSON_TYPE, '{"error":"only GET"}\n');
    route().catch((error: unknown) => {
      logger.log("warn", "A question about the worker's health failed.", { error });
      response.destroy();
    });
  };
}

async function listen(server: Server, where: { host: string; port: number }): Promise<void> {
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
}

/** Uses each part once. The reply names those that failed; only the log says why. */
async function checkParts(parts: WorkerParts, logger: Logger): Promise<Checks> {
  const uses = {
    store: () => parts.store.node(parts.node.id),
    queue: () => parts.reachQueue(),
    artifacts: () => parts.artifacts.stat(`sha256:${"0".repeat(64)}`),
  };
  const checks = await Promise.all(
    Object.entries(uses).map(async ([name, use]): Promise<[string, "ok" | "failed"]> => {
      let timer: NodeJS.Timeout | undefined;
      const late = new Promise<never>((_, reject) => {
        timer = setTimeout(
          () => reject(new Error(`No answer within ${CHECK_TIMEOUT_MS} ms.`)),
          CHECK_TIMEOUT_MS,
        );
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
  return Object.fromEntries(checks);
}
