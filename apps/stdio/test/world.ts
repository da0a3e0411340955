// The real HTTP server with the fake drivers, and users with their own home directories who run this program.

import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { sharedEnvironment } from "@formation-mcp/assembly/testing/shared-environment";
import { Client } from "@modelcontextprotocol/client";
import { StdioClientTransport } from "@modelcontextprotocol/client/stdio";
import { inject } from "vitest";

const MAIN = join(inject("bundle"), "formation-mcp.mjs");
const SERVER = join(dirname(dirname(import.meta.dirname)), "http/src/main.ts");

interface Ran {
  code: number;
  stdout: string;
  stderr: string;
}

export interface World {
  url: string;
  /** The one-time token of the first start. */
  bootstrap: string;
  /** Somebody with an empty home. */
  person(): Person;
  close(): Promise<void>;
}

export interface Person {
  home: string;
  /** Runs the program to its end. */
  run(args: string[], options?: { env?: Record<string, string>; input?: string }): Promise<Ran>;
  /** Starts the program as a host does; without a URL it works on this machine. */
  /** @param options.node options of Node itself. */
  host(options: {
    url?: string;
    args?: string[];
    env?: Record<string, string>;
    node?: string[];
  }): Promise<Host>;
}

export interface Answer {
  isError: boolean;
  structured: Record<string, unknown>;
  text: string;
  progress: string[];
}

export interface Host {
  tools(): Promise<string[]>;
  call(tool: string, input: Record<string, unknown>): Promise<Answer>;
  /** What the program wrote to standard error so far. */
  stderr(): string;
  close(): Promise<void>;
}

/** Starts a server without accounts. */
export async function startWorld(env: Record<string, string> = {}): Promise<World> {
  const directory = mkdtempSync(join(tmpdir(), "formation-remote-"));
  const stateDir = join(directory, "server");
  const server = spawn(process.execPath, ["--conditions=formation-source", SERVER], {
    cwd: directory,
    env: {
      ...machine(directory),
      ...(await sharedEnvironment(stateDir)),
      FORMATION_STATE_DIR: stateDir,
      FORMATION_HTTP_PORT: "0",
      FORMATION_LOG_LEVEL: "warn",
      FORMATION_RATE_SIGN_IN: "0",
      ...env,
    },
    stdio: ["ignore", "pipe", "pipe"],
  });
  const [[, url = ""], [bootstrap = ""]] = await Promise.all([
    said(server, "stdout", /listens: (\S+)/),
    said(server, "stderr", /fmb_\S+/),
  ]).catch((error: unknown) => {
    server.kill("SIGKILL");
    rmSync(directory, { recursive: true, force: true });
    throw error;
  });
  let people = 0;
  return {
    url,
    bootstrap,
    person() {
      const home = join(directory, `person-${++people}`);
      mkdirSync(home, { mode: 0o700 });
      return personAt(home);
    },
    async close() {
      const gone = once(server, "exit");
      server.kill("SIGTERM");
      await gone;
      const homes = Array.from({ length: people }, (_, index) => join(directory, `person-${index + 1}`));
      for (const dir of [stateDir, ...homes.map((home) => join(home, "state"))]) {
        await run([MAIN, "purge", "--yes", "--state-dir", dir], { env: machine(directory) });
      }
      rmSync(directory, { recursive: true, force: true });
    },
  };
}

function personAt(home: string): Person {
  const own = { ...machine(home), FORMATION_STATE_DIR: join(home, "state") };
  return {
    home,
    run: (args, { env = {}, input } = {}) =>
      run([MAIN, ...args], {
        env: { ...own, ...env },
        cwd: home,
        ...(input === undefined ? {} : { input }),
      }),
    async host({ url, args = [], env = {}, node = [] }) {
      const client = new Client({ name: "stdio-test", version: "1.0.0" });
      const here = url === undefined && env["FORMATION_URL"] === undefined;
      const shared = here ? await sharedEnvironment(own.FORMATION_STATE_DIR) : {};
      const transport = new StdioClientTransport({
        command: process.execPath,
        args: [...node, MAIN, ...args],
        env: { ...own, ...shared, ...(url === undefined ? {} : { FORMATION_URL: url }), ...env },
        cwd: home,
        stderr: "pipe",
      });
      let stderr = "";
      transport.stderr?.on("data", (chunk: Buffer) => {
        stderr += chunk.toString();
      });
      await client.connect(transport);
      return {
        tools: async () => (await client.listTools()).tools.map(({ name }) => name),
        async call(name, input) {
          const progress: string[] = [];
          const result = await client.callTool(
            { name, arguments: input },
            { onprogress: ({ message }) => progress.push(message ?? "") },
          );
          return {
            isError: result.isError === true,
            structured: (result.structuredContent ?? {}) as Record<string, unknown>,
            text: result.content.map((part) => (part.type === "text" ? part.text : "")).join("\n"),
            progress,
          };
        },
        stderr: () => stderr,
        close: () => client.close(),
      };
    },
  };
}

/** What every program of a test gets: no more of this process's environment than it needs to run. */
function machine(home: string): Record<string, string> {
  return {
    PATH: "/usr/bin:/bin",
    HOME: home,
    FORMATION_DRIVERS: "fake",
    FORMATION_IDLE_SECONDS: "2",
  };
}

async function run(
  args: string[],
  { env, cwd, input }: { env: Record<string, string>; cwd?: string; input?: string },
): Promise<Ran> {
  const child = spawn(process.execPath, args, { env, cwd, stdio: "pipe" });
  let [stdout, stderr] = ["", ""];
  child.stdout.on("data", (chunk: Buffer) => {
    stdout += chunk.toString();
  });
  child.stderr.on("data", (chunk: Buffer) => {
    stderr += chunk.toString();
  });
  child.stdin.on("error", () => undefined);
  child.stdin.end(input ?? "");
  const [code] = (await once(child, "close")) as [number];
  return { code, stdout, stderr };
}

/** Waits until a program has said something. */
async function said(child: ChildProcess, where: "stdout" | "stderr", pattern: RegExp): Promise<string[]> {
  const stream = child[where];
  let text = "";
  for await (const chunk of stream?.iterator({ destroyOnReturn: false }) ?? []) {
    text += String(chunk);
    const match = pattern.exec(text);
    if (match) {
      stream?.resume();
      return [...match];
    }
  }
  throw new Error(`The server ended and never said ${pattern}: ${text}`);
}
