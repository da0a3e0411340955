// The program from its sources, as a process of its own on a port of the system's choice.

import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { connect, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { sharedEnvironment } from "@formation-mcp/assembly/testing/shared-environment";
import { waitFor } from "@formation-mcp/os";
import { baseEnvironment, compileCache } from "@formation-mcp/os/testing/base-environment";

const MAIN = join(import.meta.dirname, "..", "src", "main.ts");

export interface Program extends AsyncDisposable {
  url: string;
  stateDir: string;
  child: ChildProcess;
  output(): string;
  /** Its exit code, once it has gone. */
  ended(): Promise<number | null>;
}

async function environment(
  stateDir: string,
  more: Record<string, string> = {},
): Promise<Record<string, string>> {
  return {
    ...(await sharedEnvironment(stateDir)),
    ...baseEnvironment(),
    FORMATION_STATE_DIR: stateDir,
    FORMATION_DRIVERS: "fake",
    FORMATION_HTTP_PORT: "0",
    FORMATION_WORKER: "none",
    ...more,
  };
}

/** A state directory of its own; removed with everything in it. */
export async function temporary(): Promise<{ dir: string } & AsyncDisposable> {
  const dir = await mkdtemp(join(tmpdir(), "formation-http-"));
  return { dir, [Symbol.asyncDispose]: () => rm(dir, { recursive: true, force: true }) };
}

/**
 * Runs a command to its end. With FORMATION_TEST_SHARED a command on a state directory uses PostgreSQL and
 * NATS.
 */
export async function run(
  args: string[],
  env: Record<string, string>,
): Promise<{ code: number | null; out: string; err: string }> {
  const stateDir = args[args.indexOf("--state-dir") + 1 || args.length] ?? env["FORMATION_STATE_DIR"];
  const shared = stateDir === undefined ? {} : await sharedEnvironment(stateDir);
  const child = spawn(process.execPath, ["--conditions=formation-source", MAIN, ...args], {
    env: { ...compileCache(), ...shared, ...env },
  });
  let [out, err] = ["", ""];
  child.stdout.on("data", (chunk) => {
    out += chunk;
  });
  child.stderr.on("data", (chunk) => {
    err += chunk;
  });
  const [code] = (await once(child, "close")) as [number | null];
  return { code, out, err };
}

/** Starts the server and waits until it listens. */
export async function start(
  stateDir: string,
  env: Record<string, string> = {},
  args: string[] = [],
): Promise<Program> {
  const child = spawn(process.execPath, ["--conditions=formation-source", MAIN, ...args], {
    env: await environment(stateDir, env),
    stdio: ["ignore", "pipe", "pipe"],
  });
  let output = "";
  for (const stream of [child.stdout, child.stderr]) {
    stream.on("data", (chunk) => {
      output += chunk;
    });
  }
  const ended = once(child, "close").then(([code]) => code as number | null);
  const url = await waitFor(
    () => {
      if (child.exitCode !== null) throw new Error(output);
      return / listens: (\S+)\n/.exec(output)?.[1];
    },
    { timeoutMs: 60_000, what: "the server to listen" },
  );
  return {
    url,
    stateDir,
    child,
    output: () => output,
    ended: () => ended,
    async [Symbol.asyncDispose]() {
      if (child.exitCode === null && child.signalCode === null) child.kill("SIGKILL");
      await ended;
    },
  };
}

/** A connection on which a test says what it likes. */
export async function dial(url: string): Promise<Socket & { heard(): string }> {
  const { hostname, port } = new URL(url);
  const socket = connect(Number(port), hostname);
  let text = "";
  socket.on("data", (chunk) => {
    text += chunk;
  });
  socket.on("error", () => {});
  await once(socket, "connect");
  return Object.assign(socket, { heard: () => text });
}
