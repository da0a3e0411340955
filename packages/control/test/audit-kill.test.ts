import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { AuditRecord } from "@formation-mcp/contract";
import { verifyAudit } from "@formation-mcp/control";
import { openSqliteStore } from "@formation-mcp/operations/sqlite";
import { expect, test } from "vitest";
import { until } from "./world.ts";

const CHILD = fileURLToPath(new URL("./audit-child.ts", import.meta.url));

interface Server {
  process: ChildProcess;
  answers(): string[];
  trouble(): string;
}

function start(dir: string): Server {
  const child = spawn(process.execPath, ["--conditions=formation-source", CHILD, dir], { stdio: "pipe" });
  let out = "";
  let trouble = "";
  child.stdout.on("data", (chunk) => {
    out += chunk;
  });
  child.stderr.on("data", (chunk) => {
    trouble += chunk;
  });
  // Only lines that end with a line feed were printed whole.
  return { process: child, answers: () => out.split("\n").slice(0, -1), trouble: () => trouble };
}

test("every call that a killed server answered is in the audit log, and every chain verifies", {
  timeout: 120_000,
}, async () => {
  const dir = await mkdtemp(join(tmpdir(), "formation-audit-"));
  const servers = [20, 60, 150].map((answers) => ({ ...start(dir), answersBefore: answers }));
  try {
    await Promise.all(
      servers.map(async (server) => {
        await until(() => {
          if (server.process.exitCode !== null) throw new Error(server.trouble());
          return server.answers().length >= server.answersBefore;
        }, 90_000);
        const closed = once(server.process, "close");
        server.process.kill("SIGKILL");
        await closed;
      }),
    );
    const store = await openSqliteStore({ path: join(dir, "store.db") });
    const lines: AuditRecord[] = [];
    for (let cursor: string | null = null; ; ) {
      const page = await store.audit.page({ limit: 1000, cursor });
      lines.push(...page.items);
      cursor = page.cursor;
      if (cursor === null) break;
    }
    const outcomes = Map.groupBy(lines, ({ trace_id }) => trace_id);
    const answers = servers.flatMap((server) => server.answers().map((line) => line.split(" ")));
    expect(answers.length).toBeGreaterThanOrEqual(230);
    for (const [trace = "", tool, outcome] of answers) {
      const told = outcomes.get(trace)?.map((line) => [line.action, line.outcome]);
      if (tool === "vm_create") {
        expect(told, `${tool} ${outcome}`).toEqual([
          ["vm_create", "ok"],
          ["vm_create", "begun"],
        ]);
      } else if (outcome !== "ok") expect(told, `${tool} ${outcome}`).toEqual([[tool, outcome]]);
    }
    const verdict = await verifyAudit(store.audit);
    expect(verdict).toEqual({ chains: 3, lines: lines.length, problems: [] });
    // Every instance has a line in the log that its call began.
    const { items } = await store.instances({ owner: "alice", limit: 1000 });
    const begun = new Set(lines.filter(({ outcome }) => outcome === "begun").map(({ target }) => target));
    expect(items.map(({ name }) => name).filter((name) => !begun.has(name))).toEqual([]);
    await store.close();
  } finally {
    for (const { process: child } of servers) child.kill("SIGKILL");
    await rm(dir, { recursive: true, force: true, maxRetries: 5 });
  }
});
