// How a case looks at a driver from outside: what a port serves, which processes and files are left, how a
// call fails.

import { readdirSync, readlinkSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { FormationError } from "@formation-mcp/contract";
import type { HypervisorHarness } from "./fixture.ts";

/** What a forwarded port of this host answers to a GET. */
export async function fetchText(port: number, path: string, timeoutMs = 5000): Promise<string> {
  const response = await fetch(`http://127.0.0.1:${port}${path}`, {
    signal: AbortSignal.timeout(timeoutMs),
    headers: { connection: "close" },
  });
  return response.text();
}

/** The pids of processes whose working directory is below this one. */
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

/** The processes, directories, rules and cgroups that a state directory's machines have left. */
export async function leftOf(
  harness: Pick<HypervisorHarness, "leftovers">,
  stateDir: string,
): Promise<string[]> {
  return [
    ...processesIn(stateDir).map((pid) => `process ${pid}`),
    ...readdirSync(join(stateDir, "machines")).map((name) => `directory ${name}`),
    ...(await harness.leftovers(stateDir)),
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
