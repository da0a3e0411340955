// The host side of MCP over stdio, written by hand: one process, one line per message, answers by id. No SDK
// is part of the measurement.

import { type ChildProcessWithoutNullStreams, spawn } from "node:child_process";
import { createInterface } from "node:readline";

export type Structured = Record<string, unknown>;

interface Message {
  id?: number;
  result?: { structuredContent?: Structured; isError?: boolean; content?: { text?: string }[] };
  error?: { message: string };
}

export class Rpc {
  readonly #child: ChildProcessWithoutNullStreams;
  readonly #waiting = new Map<number, (message: Message) => void>();
  #last = 0;
  #ended: string | null = null;

  constructor(args: readonly string[], env: NodeJS.ProcessEnv) {
    this.#child = spawn(process.execPath, args, { env, stdio: "pipe" });
    let complaint = "";
    this.#child.stderr.on("data", (chunk: Buffer) => {
      complaint = (complaint + chunk.toString()).slice(-2000);
    });
    this.#child.once("exit", () => {
      this.#ended = `the server ended: ${complaint}`;
      for (const answer of this.#waiting.values()) answer({ error: { message: this.#ended } });
    });
    createInterface({ input: this.#child.stdout }).on("line", (line) => {
      const message = JSON.parse(line) as Message;
      if (message.id !== undefined) this.#waiting.get(message.id)?.(message);
    });
  }

  async initialize(): Promise<void> {
    const clientInfo = { name: "bench", version: "1" };
    await this.#ask("initialize", { protocolVersion: "2025-11-25", capabilities: {}, clientInfo });
    this.#send({ method: "notifications/initialized" });
  }

  /** Calls a tool. Throws the text of the tool if it refused. */
  async call(name: string, input: Structured): Promise<Structured> {
    const { result } = await this.#ask("tools/call", { name, arguments: input });
    if (result?.isError || !result?.structuredContent) {
      throw new Error(`${name}: ${result?.content?.map(({ text }) => text).join(" ")}`);
    }
    return result.structuredContent;
  }

  /** Calls a long-running tool and follows its operation until it has completed. */
  async finish(name: string, input: Structured): Promise<Structured> {
    const first = await this.call(name, { ...input, wait_seconds: 45 });
    let seen = first;
    for (let round = 0; seen["done"] !== true; round++) {
      if (round === 10) throw new Error(`${name} does not end: ${JSON.stringify(seen)}`);
      seen = await this.call("operation_get", { id: first["operation_id"], wait_seconds: 45 });
    }
    if (["failed", "cancelled"].includes(String(seen["state"]))) {
      throw new Error(`${name} ended: ${JSON.stringify(seen)}`);
    }
    return { ...first, ...seen };
  }

  close(): Promise<void> {
    return new Promise((resolve) => {
      if (this.#ended !== null) return resolve();
      this.#child.once("exit", () => resolve());
      this.#child.stdin.end();
      setTimeout(() => this.#child.kill("SIGKILL"), 10_000).unref();
    });
  }

  async #ask(method: string, params: Structured): Promise<Message> {
    const id = ++this.#last;
    const answer = new Promise<Message>((resolve) => this.#waiting.set(id, resolve));
    this.#send({ id, method, params });
    const message = await answer;
    this.#waiting.delete(id);
    if (message.error) throw new Error(`${method}: ${message.error.message}`);
    return message;
  }

  #send(message: Structured): void {
    if (this.#ended !== null) throw new Error(this.#ended);
    this.#child.stdin.write(`${JSON.stringify({ jsonrpc: "2.0", ...message })}\n`);
  }
}
