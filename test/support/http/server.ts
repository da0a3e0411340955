// Starts the real `formation-mcp-http` on a port that the system chooses, reads its address and the token for
// the first admin, and ends it by process id.

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

/** One server process. */
export interface HttpServer {
  /** Its origin, without a slash at its end. It is its public URL, unless another one was set. */
  url: string;
  pid: number;
  stateDir: string;
  /** The one-time token for the first admin of a new server, as printed. */
  bootstrapToken(): Promise<string>;
  /** Its output so far, of both streams. */
  output(): string;
  /** Resident memory in MiB. */
  rss(): number;
  /** SIGTERM; returns the exit code after the process has ended. */
  stop(): Promise<number | null>;
  /** SIGKILL. */
  kill(): Promise<void>;
}

/** Rate limits that tests do not reach. */
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

/** {@link httpEnvironment}, with PostgreSQL and NATS if the tests run over them. */
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
