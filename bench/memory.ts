// Memory at rest: the worker after a build and a ship, compared with a bare Node process; and the process of
// an idle VM, compared with bare QEMU with the same command at the same moment.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { setTimeout as delay } from "node:timers/promises";
import { readyBare, templateOf } from "./bare-qemu.ts";
import { untilOk } from "./http.ts";
import { print, progress } from "./report.ts";
import type { Scope } from "./scope.ts";
import { openSite } from "./site.ts";
import { pairs, ratioOfMedians } from "./statistics.ts";

const NODES = 10;
const VMS = 5;
/** How long a process rests before it is measured. */
const REST_MS = 3000;

export async function benchMemory(scope: Scope): Promise<void> {
  const site = await openSite(scope);
  await site.ship("idle");
  const template = templateOf(site.machinePid(), scope);
  await site.remove("idle");
  await delay(REST_MS);
  const nodes = await pairs(
    NODES,
    async () => memoryOf(site.workerPid(), "Rss"),
    () => bareNode(scope),
  );
  print({
    name: "memory: worker at rest",
    limit: null,
    judge: "ratio",
    result: ratioOfMedians(nodes),
    against: `a bare Node process (${megabytes(nodes.ours)} against ${megabytes(nodes.baseline)} MB)`,
  });
  let number = 0;
  const machines = await pairs(
    VMS,
    async () => {
      const name = `idle-${++number}`;
      await untilOk(await site.ship(name), scope.signal);
      await delay(REST_MS);
      const bytes = memoryOf(site.machinePid(), "Pss");
      await site.remove(name);
      return bytes;
    },
    async () => {
      const bare = await (await readyBare(template, scope)).start();
      await untilOk(bare.url, scope.signal);
      await delay(REST_MS);
      const bytes = memoryOf(bare.pid, "Pss");
      await bare.end();
      return bytes;
    },
    progress("memory of an idle VM", VMS),
  );
  print({
    name: "memory: an idle VM of 256 MB",
    limit: null,
    judge: "ratio",
    result: ratioOfMedians(machines),
    against: `bare QEMU, same command (${megabytes(machines.ours)} against ${megabytes(machines.baseline)} MB)`,
  });
}

async function bareNode(scope: Scope): Promise<number> {
  const child = spawn(process.execPath, ["-e", "setInterval(() => {}, 60_000)"], { stdio: "ignore" });
  scope.defer(() => child.kill("SIGKILL"));
  await once(child, "spawn");
  await delay(500);
  const bytes = memoryOf(child.pid as number, "Rss");
  child.kill("SIGKILL");
  return bytes;
}

/** Bytes, from proc_pid_smaps_rollup(5): `Rss` is what it holds, `Pss` its fair share of what is shared. */
function memoryOf(pid: number, what: "Rss" | "Pss"): number {
  const text = readFileSync(`/proc/${pid}/smaps_rollup`, "utf8");
  return Number(new RegExp(`^${what}:\\s+(\\d+) kB`, "m").exec(text)?.[1]) * 1024;
}

function megabytes(values: readonly number[]): string {
  const sorted = [...values].sort((a, b) => a - b);
  return ((sorted[Math.floor(sorted.length / 2)] ?? 0) / 1e6).toFixed(0);
}
