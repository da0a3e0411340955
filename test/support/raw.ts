// A client that follows no rules: it writes any bytes to a real stdio server, and checks that each line on
// standard output is one JSON-RPC message.

import { type ChildProcessWithoutNullStreams, spawn } from "node:child_process";
import { once } from "node:events";
import { waitFor } from "@formation-mcp/os";
import { BUNDLE, programEnvironment, type Structured } from "./server.ts";

export interface Reply {
  /** The JSON-RPC error, or null if there was a result. */
  error: { code: number; message: string } | null;
  isError: boolean;
  structured: Structured;
  /** All text of the result, or the message of the error. */
  text: string;
  /** The whole line. */
  line: string;
}

interface Message {
  id?: number | string | null;
  method?: string;
  params?: Structured;
  result?: {
    isError?: boolean;
    structuredContent?: Structured;
    content?: { text?: string }[];
    tools?: unknown;
  };
  error?: { code: number; message: string };
}

export interface RawOptions {
  stateDir: string;
  args?: string[];
  env?: Record<string, string>;
  cwd?: string;
}

export class RawServer {
  readonly child: ChildProcessWithoutNullStreams;
  /** Every line of standard output. */
  readonly lines: string[] = [];
  readonly messages: Message[] = [];
  /** Output on standard output that was not a JSON-RPC message. */
  readonly impure: string[] = [];
  stderr = "";
  #next = 0;

  private constructor({ stateDir, args = [], env = {}, cwd }: RawOptions) {
    this.child = spawn(process.execPath, [BUNDLE, "--state-dir", stateDir, ...args], {
      env,
      ...(cwd === undefined ? {} : { cwd }),
    });
    this.child.stdin.on("error", () => {});
    this.child.stderr.on("data", (chunk) => {
      this.stderr += String(chunk);
    });
    let partial = "";
    this.child.stdout.setEncoding("utf8").on("data", (chunk: string) => {
      const lines = (partial + chunk).split("\n");
      partial = lines.pop() ?? "";
      for (const line of lines) this.#take(line);
    });
  }

  static async start(options: RawOptions): Promise<RawServer> {
    const env = await programEnvironment(options.stateDir, { FORMATION_DRIVERS: "fake", ...options.env });
    const server = new RawServer({ ...options, env });
    await server.request("initialize", {
      protocolVersion: "2025-06-18",
      capabilities: {},
      clientInfo: { name: "hostile", version: "0" },
    });
    server.write('{"jsonrpc":"2.0","method":"notifications/initialized"}\n');
    return server;
  }

  #take(line: string): void {
    this.lines.push(line);
    try {
      const message = JSON.parse(line);
      if (message?.jsonrpc !== "2.0") throw new Error("no JSON-RPC");
      this.messages.push(message);
    } catch {
      this.impure.push(line);
    }
  }

  write(bytes: string | Uint8Array): void {
    this.child.stdin.write(bytes);
  }

  id(): number {
    return ++this.#next;
  }

  /** Writes a line and returns the next message with this id. */
  async exchange(bytes: string | Uint8Array, id: number | string | null): Promise<Reply> {
    const before = this.messages.length;
    this.write(bytes);
    const found = await waitFor(
      () => {
        if (this.child.exitCode !== null) throw new Error(`The server ended: ${this.stderr.slice(-2000)}`);
        return this.messages
          .slice(before)
          .find((message) => message.id === id && message.method === undefined);
      },
      { timeoutMs: 60_000, everyMs: 5, what: `the answer to ${id}` },
    );
    return replyOf(found);
  }

  /** `params` may be any text. */
  async request(method: string, params: unknown): Promise<Reply> {
    const id = this.id();
    const text = typeof params === "string" ? params : JSON.stringify(params);
    return this.exchange(`{"jsonrpc":"2.0","id":${id},"method":"${method}","params":${text}}\n`, id);
  }

  /** Calls a tool with an input, or with the JSON text of one. */
  async call(tool: string, input: unknown, meta: Structured = {}): Promise<Reply> {
    const text = typeof input === "string" ? input : JSON.stringify(input);
    return this.request(
      "tools/call",
      `{"name":${JSON.stringify(tool)},"arguments":${text},"_meta":${JSON.stringify(meta)}}`,
    );
  }

  /** The progress notifications for a token. */
  progressOf(token: string): string[] {
    return this.messages
      .filter(
        ({ method, params }) => method === "notifications/progress" && params?.["progressToken"] === token,
      )
      .map(({ params }) => String(params?.["message"]));
  }

  async close(): Promise<number | null> {
    if (this.child.exitCode !== null) return this.child.exitCode;
    const exit = once(this.child, "exit");
    this.child.stdin.end();
    const [code] = await exit;
    return code as number | null;
  }
}

function replyOf({ error, result }: Message): Reply {
  return {
    error: error ?? null,
    isError: result?.isError === true,
    structured: result?.structuredContent ?? (result as Structured | undefined) ?? {},
    text: error?.message ?? (result?.content ?? []).map(({ text = "" }) => text).join("\n"),
    line: JSON.stringify({ error, result }),
  };
}
