// Metrics for Prometheus. Label values come from closed lists, so that no caller can create series without
// end.

import { FormationError } from "@formation-mcp/contract";
import type { Control } from "@formation-mcp/control";
import { LISTING } from "@formation-mcp/tools/listing";
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from "prom-client";

export interface Metrics {
  requestStarted(): void;
  /** Counts an answered request; `route` is a pattern. */
  requestAnswered(request: { method: string; route: string; status: number; seconds: number }): void;
  /** The same control, with its calls counted. */
  countCalls(control: Control): Control;
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
  const calls = new Counter({
    name: "formation_tool_calls_total",
    help: "Calls of tools, by how they ended.",
    labelNames: ["tool", "outcome"],
    registers,
  });
  const tools = new Set(LISTING.map(({ name }) => name));
  const countCall = (tool: string, outcome: string) =>
    calls.inc({ tool: tools.has(tool) ? tool : "(unknown)", outcome });
  return {
    requestStarted: () => running.inc(),
    requestAnswered({ method, route, status, seconds: took }) {
      running.dec();
      requests.inc({ method: METHODS.has(method) ? method : "OTHER", route, status });
      seconds.observe({ route }, took);
    },
    countCalls: (control) => ({
      offers: (principal, tool) => control.offers(principal, tool),
      async call(principal, tool, input, hooks) {
        try {
          const result = await control.call(principal, tool, input, hooks);
          countCall(tool, "ok");
          return result;
        } catch (error) {
          countCall(tool, FormationError.from(error).code);
          throw error;
        }
      },
    }),
    render: async () => ({ text: await registry.metrics(), type: registry.contentType }),
  };
}
