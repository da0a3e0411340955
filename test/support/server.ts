// Starts the bundled stdio server as hosts do, with every kind of client, behind one interface.

import { execFile } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { copyKernelTo } from "@formation-mcp/hypervisor/testing/kernel";
import { identify, isAlive, waitFor } from "@formation-mcp/os";
import { baseEnvironment } from "@formation-mcp/os/testing/base-environment";
import { Client as ClientV2 } from "@modelcontextprotocol/client";
import { StdioClientTransport as StdioV2 } from "@modelcontextprotocol/client/stdio";
import { Client as ClientV1 } from "@modelcontextprotocol/sdk/client/index.js";
import { StdioClientTransport as StdioV1 } from "@modelcontextprotocol/sdk/client/stdio.js";
import { ROOT } from "./programs.ts";
import { sharedEnvironment } from "./shared.ts";

export { ROOT } from "./programs.ts";
export const BUNDLE = join(ROOT, "apps/stdio/dist/formation-mcp.mjs");
export const HELLO = join(ROOT, "examples/hello");

export type Structured = Record<string, unknown>;

/** The result of a tool call, for every client. */
export interface Answer {
  isError: boolean;
  structured: Structured;
  text: string;
}

/** One client connected to one stdio server. */
export interface Peer {
  name: string;
  /** The process of the server, if the client keeps one running. */
  pid?: number;
  tools(): Promise<string[]>;
  call(tool: string, input: Structured, onProgress?: (message: string) => void): Promise<Answer>;
  close(): Promise<void>;
}

export interface ServerOptions {
  stateDir: string;
  args?: string[];
  /** Another program file than the one of this repository. */
  bundle?: string;
  env?: Record<string, string>;
}

/** A state directory for one test file; `close` removes it with its worker and the VMs of a failed test. */
export function temporaryState(env: Record<string, string> = {}): { dir: string; close(): Promise<void> } {
  const dir = mkdtempSync(join(tmpdir(), "formation-e2e-"));
  return {
    dir,
    async close() {
      if (existsSync(join(dir, "worker.lock"))) {
        const drivers = existsSync(join(dir, "b", "c")) ? "real" : "fake";
        await promisify(execFile)(process.execPath, [BUNDLE, "purge", "--yes", "--state-dir", dir], {
          env: { ...process.env, FORMATION_DRIVERS: drivers, ...env },
        });
      }
      rmSync(dir, { recursive: true, force: true });
    },
  };
}

/**
 * As `temporaryState`, with the guest kernel that tests share.
 * Otherwise the worker downloads one, which is slow.
 */
export async function temporaryStateWithKernel(): Promise<ReturnType<typeof temporaryState>> {
  const state = temporaryState();
  await copyKernelTo(join(state.dir, "h"));
  return state;
}

/** The worker of a state directory, as it reports itself. */
export function workerOf(stateDir: string): { pid: number; state: string; version: string } | null {
  const file = join(stateDir, "worker.json");
  return existsSync(file) ? JSON.parse(readFileSync(file, "utf8")) : null;
}

/** Asks the worker to end and waits until it has. */
export async function dismissWorker(stateDir: string): Promise<void> {
  const worker = workerOf(stateDir);
  const identity = worker && identify(worker.pid);
  if (!identity) return;
  process.kill(identity.pid, "SIGTERM");
  await waitFor(() => !isAlive(identity), { timeoutMs: 60_000, what: "the worker to leave" });
}

function command({ stateDir, args = [], bundle = BUNDLE }: ServerOptions): string[] {
  return [bundle, "--allow-dir", HELLO, "--state-dir", stateDir, ...args];
}

/**
 * The environment of a program that uses a state directory, with PostgreSQL and NATS if the tests run over
 * them.
 */
export async function programEnvironment(
  stateDir: string,
  env: Record<string, string> = {},
): Promise<Record<string, string>> {
  // A request to a remote server keeps no local state.
  const shared = env["FORMATION_URL"] === undefined ? await sharedEnvironment(stateDir) : {};
  return { ...baseEnvironment(), ...shared, ...env };
}

interface Result {
  isError?: boolean | undefined;
  structuredContent?: unknown;
  content?: { type: string; text?: string }[];
}

function answer(result: Result): Answer {
  return {
    isError: result.isError === true,
    structured: (result.structuredContent ?? {}) as Structured,
    text: (result.content ?? []).map((part) => part.text ?? "").join("\n"),
  };
}

/** The client of SDK 2.x, with the requested protocol version. */
export async function sdkV2(options: ServerOptions, era: "modern" | "legacy"): Promise<Peer> {
  const client = new ClientV2(
    { name: "e2e", version: "1.0.0" },
    { versionNegotiation: { mode: era === "modern" ? { pin: "2026-07-28" } : "legacy" } },
  );
  const transport = new StdioV2({
    command: process.execPath,
    args: command(options),
    env: await programEnvironment(options.stateDir, options.env),
    stderr: "inherit",
  });
  await client.connect(transport);
  return {
    name: `SDK v2, ${era}`,
    ...(transport.pid ? { pid: transport.pid } : {}),
    tools: async () => (await client.listTools()).tools.map((tool) => tool.name),
    call: async (name, input, onProgress) =>
      answer(
        (await client.callTool(
          { name, arguments: input },
          { timeout: 60_000, onprogress: (progress) => onProgress?.(progress.message ?? "") },
        )) as Result,
      ),
    close: () => client.close(),
  };
}

/** The client of SDK 1.x. */
export async function sdkV1(options: ServerOptions): Promise<Peer> {
  const client = new ClientV1({ name: "e2e", version: "1.0.0" });
  await client.connect(
    new StdioV1({
      command: process.execPath,
      args: command(options),
      env: await programEnvironment(options.stateDir, options.env),
      stderr: "inherit",
    }),
  );
  return {
    name: "SDK v1",
    tools: async () => (await client.listTools()).tools.map((tool) => tool.name),
    call: async (name, input, onProgress) =>
      answer(
        (await client.callTool({ name, arguments: input }, undefined, {
          timeout: 60_000,
          onprogress: (progress) => onProgress?.(progress.message ?? ""),
        })) as Result,
      ),
    close: () => client.close(),
  };
}

/** The command line of the MCP Inspector: one process and one server for each call. */
export async function inspector(options: ServerOptions, era: "modern" | "legacy"): Promise<Peer> {
  const entry = join(ROOT, "node_modules/@modelcontextprotocol/inspector/clients/launcher/build/index.js");
  const home = mkdtempSync(join(tmpdir(), "formation-inspector-"));
  const env = await programEnvironment(options.stateDir, options.env);
  // It passes little more than the PATH to the server.
  const settings = Object.entries(env).filter(([name]) => name.startsWith("FORMATION_"));
  const ask = async (...words: string[]): Promise<Record<string, unknown>> => {
    const args = [
      entry,
      "--cli",
      "--protocol-era",
      era,
      "--format",
      "json",
      ...settings.flatMap(([name, value]) => ["-e", `${name}=${value}`]),
      ...words,
      "--",
      process.execPath,
      ...command(options),
    ];
    const { stdout } = await promisify(execFile)(process.execPath, args, {
      env: { ...env, HOME: home },
      maxBuffer: 16 * 1024 * 1024,
      timeout: 120_000,
    }).catch((error: { code?: number; stdout: string; stderr: string }) => {
      if (error.code === 5) return { stdout: error.stdout }; // the tool said isError
      throw new Error(`Inspector ended with ${error.code}: ${error.stderr}\n${error.stdout}`);
    });
    const body = JSON.parse(stdout) as Record<string, unknown>;
    return (body["result"] as Record<string, unknown> | undefined) ?? body;
  };
  return {
    name: `Inspector, ${era}`,
    tools: async () =>
      ((await ask("--method", "tools/list"))["tools"] as { name: string }[]).map((tool) => tool.name),
    call: async (name, input) =>
      answer(
        (await ask(
          "--method",
          "tools/call",
          "--tool-name",
          name,
          "--tool-args-json",
          JSON.stringify(input),
        )) as Result,
      ),
    close: async () => rmSync(home, { recursive: true, force: true }),
  };
}

/** Calls a tool and returns its result, or fails with its error text. */
export async function must(peer: Peer, tool: string, input: Structured): Promise<Structured> {
  const result = await peer.call(tool, input);
  if (result.isError) throw new Error(`${tool} said: ${result.text}`);
  return result.structured;
}

/** Follows an operation to its end. */
export async function ended(peer: Peer, first: Structured): Promise<Structured> {
  let seen = first;
  for (let round = 0; round < 30 && seen["done"] !== true; round++) {
    seen = await must(peer, "operation_get", { id: first["operation_id"], wait_seconds: 40 });
  }
  return seen;
}
