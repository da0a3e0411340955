// Refused requests in the audit log. For unknown callers the number is bounded, so that a flood does not fill
// the disk. The refusals of an account are all stored; its rate limit bounds them.

import type { ErrorCode } from "@formation-mcp/contract";
import type { Context } from "hono";
import { matchedRoutes } from "hono/route";
import { addressKey } from "./client-address.ts";
import type { GatewayDeps } from "./deps.ts";

export interface Refusal {
  outcome: ErrorCode;
  /** A tool's name, or a route as {@link actionOf} writes it. */
  action: string;
  address: string;
  traceId: string;
  owner?: string | null;
  credential?: string | null;
}

type Deps = Pick<GatewayDeps, "audit" | "logger" | "clock">;

/** Refusals of unknown callers that one server process stores per minute. */
const MAX_PER_ADDRESS = 60;
const MAX_PER_PROCESS = 1200;
const MINUTE_MS = 60_000;

const minutes = new WeakMap<object, { since: number; all: number; by: Map<string, number> }>();

/**
 * Stores a refusal; await it before the answer goes out. Never rejects: if the audit log fails, the request
 * is refused all the same.
 */
export async function recordRefusal(deps: Deps, refusal: Refusal): Promise<void> {
  const { action, outcome, address, traceId, owner = null, credential = null } = refusal;
  if (owner === null && !mayStore(deps, addressKey(address))) return;
  try {
    await deps.audit.record(
      { owner, credential, action, target: null, outcome, address, trace_id: traceId },
      { wait: true },
    );
  } catch (error) {
    deps.logger.log("error", "A refusal could not be stored in the audit log.", { error });
  }
}

/** Method and route pattern, as the audit log names them: `GET /api/operations/{id}`. */
export function actionOf(c: Context): string {
  const path = matchedRoutes(c)
    .map((route) => route.path)
    .findLast((pattern) => !pattern.includes("*"));
  const method = /^[A-Z]{1,10}$/.test(c.req.method) ? c.req.method : "OTHER";
  return `${method} ${path === undefined ? "(unknown)" : path.replace(/:(\w+)(\{[^}]*\})?/g, "{$1}")}`;
}

function mayStore(deps: Deps, from: string): boolean {
  const now = deps.clock.now();
  let minute = minutes.get(deps.audit);
  if (!minute || now - minute.since >= MINUTE_MS || now < minute.since) {
    minute = { since: now, all: 0, by: new Map() };
    minutes.set(deps.audit, minute);
  }
  const one = minute.by.get(from) ?? 0;
  if (one >= MAX_PER_ADDRESS || minute.all >= MAX_PER_PROCESS) return false;
  minute.by.set(from, one + 1);
  minute.all += 1;
  return true;
}
