// The stdio transport: one JSON-RPC message per line, UTF-8, with a maximum size. A line that is none of that
// is answered with a JSON-RPC error, and reading goes on with the next line; no text of the line gets into a
// log.

import type { ByteLineSplitter } from "@formation-mcp/base";
import { LIMITS } from "@formation-mcp/contract";
import { type JSONRPCMessage, serializeMessage, type Transport } from "@modelcontextprotocol/server";
import { createLineReader, type Line } from "./lines.ts";
import { parseLine } from "./parse-line.ts";

export interface StdioTransportOptions {
  input: NodeJS.ReadableStream;
  output: NodeJS.WritableStream;
  /** The maximum size of one line, in bytes. Default: {@link LIMITS.mcpBodyBytes}. */
  maxLineBytes?: number;
  /** Called for each refused line, with a reason that quotes nothing from it. */
  onRefused?: (why: string) => void;
}

export interface StdioTransport extends Transport {
  /**
   * Resolves when the transport has closed: at the end of the input, or when the output is broken (EPIPE).
   */
  readonly closed: Promise<void>;
}

/** A transport over two streams, for the SDK's `serveStdio(factory, { transport })`. */
export function createStdioTransport(options: StdioTransportOptions): StdioTransport {
  return new LineTransport(options);
}

class LineTransport implements StdioTransport {
  readonly closed: Promise<void>;
  onmessage: Transport["onmessage"];
  onerror: Transport["onerror"];
  onclose: Transport["onclose"];
  readonly #options: StdioTransportOptions;
  readonly #maxLineBytes: number;
  readonly #lines: ByteLineSplitter;
  #open = false;
  #resolveClosed = () => {};

  constructor(options: StdioTransportOptions) {
    this.#options = options;
    this.#maxLineBytes = options.maxLineBytes ?? LIMITS.mcpBodyBytes;
    this.#lines = createLineReader(this.#maxLineBytes, (line) => {
      if (this.#open) this.#take(line);
    });
    // No Promise.withResolvers: a remote server's tools are served on Node 20 too.
    this.closed = new Promise((resolve) => {
      this.#resolveClosed = resolve;
    });
  }

  async start(): Promise<void> {
    const { input, output } = this.#options;
    this.#open = true;
    input.on("data", this.#onData).on("error", this.#onInputError);
    input.on("end", this.#onEnd).on("close", this.#onEnd);
    output.on("error", this.#onOutputError); // never removed: a write may still fail after close()
  }

  async send(message: JSONRPCMessage): Promise<void> {
    if (this.#open) await this.#write(serializeMessage(message));
  }

  async close(): Promise<void> {
    if (!this.#open) return;
    this.#open = false;
    const { input } = this.#options;
    input.off("data", this.#onData).off("error", this.#onInputError);
    input.off("end", this.#onEnd).off("close", this.#onEnd);
    input.pause();
    this.onclose?.();
    this.#resolveClosed();
  }

  readonly #onData = (chunk: Buffer | string): void => {
    this.#lines.push(typeof chunk === "string" ? Buffer.from(chunk) : chunk);
  };

  readonly #onEnd = () => void this.close();

  readonly #onInputError = (error: Error) => this.onerror?.(error);

  readonly #onOutputError = (error: Error): void => {
    if (this.#open) this.onerror?.(error);
    void this.close();
  };

  #take(line: Line): void {
    const parsed = parseLine(line, this.#maxLineBytes);
    if (parsed.kind === "message") this.onmessage?.(parsed.message);
    if (parsed.kind !== "error") return;
    const { id, code, message } = parsed;
    this.#options.onRefused?.(message);
    this.#write(`${JSON.stringify({ jsonrpc: "2.0", id, error: { code, message } })}\n`).catch(() => {});
  }

  #write(text: string): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#options.output.write(text, (error) => (error ? reject(error) : resolve()));
    });
  }
}
