// Starts the real `formation-mcp-http` on a port of the system's choice, reads where it listens and how its
// first admin comes in, and ends it by its process id.

import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { waitFor } from "@formation-mcp/os";
import { baseEnvironment } from "@formation-mcp/os/testing/base-environment";
import { httpCommand } from "../programs.ts";
import { sharedEnvironment } from "../shared.ts";

export interface HttpServerOptions {
  stateDir: string;
  env?: Record<string, string>;
  args?: string[];
}

/** One process that serves. */
export interface HttpServer {
  /** Where it listens: an origin without a slash at its end. Its public URL, unless another was set. */
  url: string;
  pid: number;
  stateDir: string;
  /** The one-time token of a fresh server's first admin, as it was printed. */
  bootstrapToken(): Promise<string>;
  /** All that it wrote so far, on both streams. */
  output(): string;
  /** Resident memory in MiB. */
  rss(): number;
  /** SIGTERM; returns the exit code once it has gone. */
  stop(): Promise<number | null>;
  /** SIGKILL. */
  kill(): Promise<void>;
}

/** Settings under which a storm of a test is not taken for one. */
export function httpEnvironment(stateDir: string, env: Record<string, string> = {}): Record<string, string> {
  return {
    ...baseEnvironment(),
    FORMATION_DRIVERS: "fake",
    FORMATION_STATE_DIR: stateDir,
    FORMATION_HTTP_PORT: "0",
    FORMATION_RATE_ADDRESS: "0",
    FORMATION_RATE_OWNER: "0",
    FORMATION_RATE_SIGN_IN: "0",
    FORMATION_RATE_FAILURE: "0",
    FORMATION_QUOTA_OPERATIONS_PER_MINUTE: "none",
    ...env,
  };
}

/** {@link httpEnvironment}, on PostgreSQL and NATS where the tests are to run so. */
export async function servedEnvironment(
  stateDir: string,
  env: Record<string, string> = {},
): Promise<Record<string, string>> {
  return httpEnvironment(stateDir, { ...(await sharedEnvironment(stateDir)), ...env });
}

export async function startHttp({ stateDir, env = {}, args = [] }: HttpServerOptions): Promise<HttpServer> {
  const child = spawn(process.execPath, httpCommand(args), {
    env: await servedEnvironment(stateDir, env),
    stdio: ["ignore", "pipe", "pipe"],
  });
  let output = "";
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding("utf8").on("data", (chunk: string) => {
      output += chunk;
    });
  }
  const address = await waitFor(
    () => {
      if (child.exitCode !== null) throw new Error(`The server ended with ${child.exitCode}:\n${output}`);
      return /"message":"listening".*"address":"([^"]+)"/.exec(output)?.[1];
    },
    { timeoutMs: 60_000, everyMs: 20, what: "the server to listen" },
  );
  return {
    url: `http://${address}`,
    pid: child.pid ?? 0,
    stateDir,
    bootstrapToken: () =>
      waitFor(() => /--bootstrap (fmb_\S+)\n/.exec(output)?.[1], {
        timeoutMs: 20_000,
        everyMs: 20,
        what: "the bootstrap token",
      }),
    output: () => output,
    rss: () =>
      Number(/VmRSS:\s+(\d+) kB/.exec(readFileSync(`/proc/${child.pid}/status`, "utf8"))?.[1] ?? 0) / 1024,
    stop: () => end(child, "SIGTERM"),
    kill: async () => {
      await end(child, "SIGKILL");
    },
  };
}

async function end(child: ChildProcess, signal: NodeJS.Signals): Promise<number | null> {
  if (child.exitCode === null && child.signalCode === null) {
    const gone = once(child, "exit");
    child.kill(signal);
    await gone;
  }
  return child.exitCode;
}
