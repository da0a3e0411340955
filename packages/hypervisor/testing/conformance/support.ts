// Helpers of the conformance suite: specs with sane values, a worker in a process of its own that can be
// killed, and checks from outside for anything that a machine left.

import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { readdirSync, readlinkSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { FormationError } from "@formation-mcp/contract";
import type { Hypervisor, MachineSpec } from "@formation-mcp/hypervisor";

/** What the test of a driver gives to the suite. */
export interface Subject {
  open(stateDir: string): Promise<Hypervisor>;
  /** A disk with busybox in /bin and these files, whose paths are relative to its root. */
  disk(files: Record<string, string>): Promise<string>;
  /**
   * A program that opens the driver and performs the steps of `WorkerOrders`, which is its last argument as
   * JSON. It prints the name of each step before the step, and `done` at the end. Then it waits to be killed.
   */
  worker(): { file: string; args: string[] };
  /** A port for a workload to listen on. */
  guestPort(): Promise<number>;
  /** How long a machine may take until it is live or has failed. */
  patienceMs: number;
  /** What the machines of this state directory left outside of it: rules, cgroups. */
  leftovers(stateDir: string): Promise<string[]>;
  /** How many seeded kills of the worker are tried, and within how long. */
  kills: { rounds: number; withinMs: number };
}

export interface WorkerOrders {
  stateDir: string;
  spec: MachineSpec;
  steps: ("create" | "start" | "live" | "stop" | "remove")[];
  /** The leash that machines are started on, if any. */
  leashMs?: number;
}

/** A spec that serves its working directory on the port. */
export function serving(id: string, disk: string, guestPort: number, script = ""): MachineSpec {
  return {
    id,
    hostname: "web",
    disk,
    vcpus: 1,
    memory_mb: 192,
    process: {
      argv: ["/bin/sh", "-c", `${script}\nexec busybox httpd -f -p ${guestPort} -h .`],
      env: {},
      workdir: "/srv",
      user: "",
    },
    ports: [{ guest_port: guestPort, port: null }],
    egress: true,
  };
}

export async function fetchText(port: number, path: string, timeoutMs = 5000): Promise<string> {
  const response = await fetch(`http://127.0.0.1:${port}${path}`, {
    signal: AbortSignal.timeout(timeoutMs),
    headers: { connection: "close" },
  });
  return response.text();
}

export type Worker = ReturnType<typeof startWorker>;

/** Starts a worker process; `reached(step)` resolves when it begins that step. */
export function startWorker(subject: Subject, orders: WorkerOrders) {
  const { file, args } = subject.worker();
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
    /** Stops it with SIGSTOP: its threads and timers, too. */
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

/** The processes whose working directory is below a directory. */
export function processesIn(directory: string): number[] {
  return readdirSync("/proc")
    .filter((entry) => {
      if (!/^[0-9]+$/.test(entry)) return false;
      try {
        return readlinkSync(join("/proc", entry, "cwd")).startsWith(directory);
      } catch {
        return false;
      }
    })
    .map(Number);
}

/** All that the machines of a state directory left: processes, directories, rules, cgroups. */
export async function leftOf(subject: Pick<Subject, "leftovers">, stateDir: string): Promise<string[]> {
  return [
    ...processesIn(stateDir).map((pid) => `process ${pid}`),
    ...readdirSync(join(stateDir, "machines")).map((name) => `directory ${name}`),
    ...(await subject.leftovers(stateDir)),
  ];
}

/** The error that a call rejects with. */
export async function failureOf(promise: Promise<unknown>): Promise<FormationError> {
  const thrown = await promise.then(
    () => new Error("it did not fail"),
    (error: unknown) => error,
  );
  if (thrown instanceof FormationError) return thrown;
  throw thrown;
}

/** Listens on a host port until closed. */
export function occupy(port: number): Promise<{ port: number; close(): Promise<void> }> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once("error", reject);
    server.listen(port, "127.0.0.1", () => {
      const address = server.address();
      resolve({
        port: typeof address === "object" && address !== null ? address.port : port,
        close: () => new Promise((done) => server.close(() => done())),
      });
    });
  });
}
