// An authenticated vm_list over HTTP at 32 connections, compared with the SDK's handler with the same tools
// and the same response bytes, but without authentication, store and audit log; then the cost of each of
// these.

import { type ChildProcess, fork } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { print, progress } from "./report.ts";
import type { Scope } from "./scope.ts";
import type { Seen } from "./serve/load.ts";
import { type Order, type Ready, SIDES, type Side } from "./serve/server.ts";
import { median, pairs, ratioOfMedians } from "./statistics.ts";

const PAIRS = 20;
const PARTS = 8;
const SECONDS = 2;
const CONNECTIONS = 32;
const INSTANCES = 5;
const REST_MS = 3000;
/** Warm-up loads: V8 optimizes code that is called often, and the sides have different amounts of code. */
const WARM = 3;

interface Running {
  pid: number;
  load(): Promise<Seen>;
}

export async function benchServe(scope: Scope): Promise<void> {
  const sides = {} as Record<Side, Running>;
  for (const side of SIDES) sides[side] = await start(side, scope);
  await delay(REST_MS);
  const idle = { ours: megabytes(sides.audit.pid), baseline: megabytes(sides.bare.pid) };
  for (let i = 0; i < WARM; i++) for (const side of SIDES) await sides[side].load();
  const seen: Record<Side, Seen[]> = { bare: [], gate: [], store: [], audit: [] };
  const rate = (side: Side) => async () => {
    const one = await sides[side].load();
    seen[side].push(one);
    return one.perSecond;
  };
  const whole = await pairs(PAIRS, rate("audit"), rate("bare"), progress("vm_list over HTTP", PAIRS));
  const bytes = new Set([...seen.audit, ...seen.bare].map((each) => each.bytes));
  if (bytes.size !== 1) throw new Error(`The sides answer with different bytes: ${[...bytes].join(", ")}.`);
  const p99 = (side: Side) => median(seen[side].map((each) => each.p99)).toFixed(1);
  print({
    name: "serve: authenticated vm_list, requests/s",
    limit: { atLeast: 0.8 },
    judge: "ratio",
    result: ratioOfMedians(whole),
    against: `the SDK alone, the same bytes (p99 ${p99("audit")} against ${p99("bare")} ms, at rest ${idle.ours} against ${idle.baseline} MB)`,
  });
  for (const [part, side, without] of [
    ["guards, token, rate limit", "gate", "bare"],
    ["scope, ownership, store", "store", "gate"],
    ["audit log", "audit", "store"],
  ] as const) {
    print({
      name: `  ${part}`,
      limit: null,
      judge: "ratio",
      result: ratioOfMedians(await pairs(PARTS, rate(side), rate(without))),
      against: "the same without that part",
    });
  }
}

async function start(side: Side, scope: Scope): Promise<Running> {
  const child = forked("serve/server.ts", scope);
  const order: Order = { side, dir: scope.directory(), instances: INSTANCES };
  const { port, token } = await ask<Ready>(child, order);
  const request = requestFor(port, token);
  return {
    pid: child.pid as number,
    async load() {
      const one = forked("serve/load.ts", scope);
      return await ask<Seen>(one, { port, request, connections: CONNECTIONS, seconds: SECONDS });
    },
  };
}

function requestFor(port: number, token: string): string {
  const body = JSON.stringify({
    jsonrpc: "2.0",
    id: 1,
    method: "tools/call",
    params: {
      name: "vm_list",
      arguments: {},
      _meta: {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientInfo": { name: "bench", version: "1" },
        "io.modelcontextprotocol/clientCapabilities": {},
      },
    },
  });
  return [
    "POST /mcp HTTP/1.1",
    `Host: 127.0.0.1:${port}`,
    `Authorization: Bearer ${token}`,
    "Content-Type: application/json",
    "Accept: application/json, text/event-stream",
    "MCP-Protocol-Version: 2026-07-28",
    "Mcp-Method: tools/call",
    "Mcp-Name: vm_list",
    `Content-Length: ${Buffer.byteLength(body)}`,
    "",
    body,
  ].join("\r\n");
}

function forked(script: string, scope: Scope): ChildProcess {
  const child = fork(join(import.meta.dirname, script), {
    execArgv: ["--conditions=formation-source"],
    stdio: ["ignore", "inherit", "inherit", "ipc"],
  });
  scope.defer(() => child.kill("SIGKILL"));
  return child;
}

function ask<T>(child: ChildProcess, order: unknown): Promise<T> {
  return new Promise((resolve, reject) => {
    child.once("message", (answer) => resolve(answer as T));
    child.once("exit", () => reject(new Error("A process of the comparison ended without an answer.")));
    child.send(order as object);
  });
}

function megabytes(pid: number): string {
  const kilobytes = /^Rss:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/smaps_rollup`, "utf8"))?.[1];
  return (Number(kilobytes) / 1000).toFixed(0);
}
