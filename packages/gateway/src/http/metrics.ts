// Numbers for Prometheus. Labels come from closed lists, so that no caller can make series without end.

import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from "prom-client";

export interface Metrics {
  /** Counts one answered request; `route` is a pattern. */
  answered(request: { method: string; route: string; status: number; seconds: number }): void;
  began(): void;
  /** A request that the guards turned away. */
  refused(why: "host" | "origin" | "rate" | "token" | "scope"): void;
  /** The text for `/metrics`, and its media type. */
  render(): Promise<{ text: string; type: string }>;
}

const METHODS = new Set(["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]);

export function createMetrics(version: string): Metrics {
  const registry = new Registry();
  const registers = [registry];
  collectDefaultMetrics({ register: registry });
  new Gauge({
    name: "formation_build_info",
    help: "The program's version, always 1.",
    labelNames: ["version"],
    registers,
  }).set({ version }, 1);
  const requests = new Counter({
    name: "formation_http_requests_total",
    help: "Answered requests.",
    labelNames: ["method", "route", "status"],
    registers,
  });
  const seconds = new Histogram({
    name: "formation_http_request_seconds",
    help: "From a request's arrival to the head of its answer.",
    labelNames: ["route"],
    buckets: [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 20, 60],
    registers,
  });
  const running = new Gauge({
    name: "formation_http_requests_running",
    help: "Requests whose answer has not begun.",
    registers,
  });
  const refusals = new Counter({
    name: "formation_http_refusals_total",
    help: "Requests that the guards turned away.",
    labelNames: ["why"],
    registers,
  });
  return {
    began: () => running.inc(),
    answered({ method, route, status, seconds: took }) {
      running.dec();
      requests.inc({ method: METHODS.has(method) ? method : "OTHER", route, status });
      seconds.observe({ route }, took);
    },
    refused: (why) => refusals.inc({ why }),
    render: async () => ({ text: await registry.metrics(), type: registry.contentType }),
  };
}
