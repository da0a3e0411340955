// A worker in a process of its own, which a case can freeze and kill.

import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import type { MachineSpec } from "@formation-mcp/hypervisor";
import type { HypervisorHarness } from "./fixture.ts";

/** What the worker does, in order. */
export interface WorkerOrders {
  stateDir: string;
  spec: MachineSpec;
  steps: ("create" | "start" | "pause" | "live" | "stop" | "remove")[];
  /** The leash that machines are started with, if any, in milliseconds. */
  leashMs?: number;
}

export type Worker = ReturnType<typeof startWorker>;

/** Starts a worker process; `reached(step)` resolves when it says that it begins that step. */
export function startWorker(harness: Pick<HypervisorHarness, "worker">, orders: WorkerOrders) {
  const { file, args } = harness.worker();
  const child = spawn(file, [...args, JSON.stringify(orders)], { stdio: ["ignore", "pipe", "inherit"] });
  const said: string[] = [];
  const waiting = new Map<string, () => void>();
  const lines = createInterface({ input: child.stdout }).on("line", (line) => {
    said.push(line);
    waiting.get(line)?.();
  });
  const closed = once(lines, "close");
  return {
    reached: (step: string) =>
      new Promise<void>((resolve, reject) => {
        if (said.includes(step)) resolve();
        waiting.set(step, resolve);
        child.once("exit", () => reject(new Error(`the worker ended before ${step}`)));
      }),
    /** Stops all its threads and timers (SIGSTOP). */
    freeze: () => void child.kill("SIGSTOP"),
    /** Kills it; resolves with the steps that it had begun. */
    kill: async () => {
      await killed(child);
      await closed;
      return said;
    },
  };
}

function killed(child: ChildProcess): Promise<void> {
  return new Promise((resolve) => {
    if (child.exitCode !== null || child.signalCode !== null) return resolve();
    child.once("exit", () => resolve());
    child.kill("SIGKILL");
  });
}
