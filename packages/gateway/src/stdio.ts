// The wire of the stdio door: one JSON-RPC message a line, UTF-8, no longer than a body may be. What is none of that is
// answered and forgotten, and the line after it is read as if nothing had been; no word of it gets into a log.

import { isUtf8 } from "node:buffer";
import { LIMITS } from "@formation-mcp/contract";
import {
  type JSONRPCMessage,
  ProtocolErrorCode,
  parseJSONRPCMessage,
  serializeMessage,
  type Transport,
} from "@modelcontextprotocol/server";

export interface StdioWireOptions {
  input: NodeJS.ReadableStream;
  output: NodeJS.WritableStream;
  /** What one line may hold, in bytes. Default: {@link LIMITS.mcpBodyBytes}. */
  maxLineBytes?: number;
  /** Told of each line that was refused, in fixed words of ours. */
  onRefused?: (why: string) => void;
}

/** A transport, and when it has closed: at the end of the input, or when nobody reads the output any more. */
export interface StdioWire extends Transport {
  readonly closed: Promise<void>;
}

const LINE_END = 10;
/** Of a line that is too long this much of both ends is looked at for its id. */
const ENDS = 512;
const ID = String.raw`"id"\s*:\s*(-?\d{1,15}|"[^"\\]{1,200}")`;
/** The id as one of the first members of a message, after nothing but `jsonrpc` and `method`, or as its last. */
const FIRST_ID = new RegExp(String.raw`^\s*\{\s*(?:"(?:jsonrpc|method)"\s*:\s*"[^"\\]*"\s*,\s*)*${ID}`);
const LAST_ID = new RegExp(String.raw`${ID}\s*\}\s*$`);

/** The messages of a client on two streams, for `serveStdio({ transport })`. */
export function stdioWire(options: StdioWireOptions): StdioWire {
  const { input, output, maxLineBytes = LIMITS.mcpBodyBytes, onRefused } = options;
  let onClosed = () => {};
  const closed = new Promise<void>((resolve) => {
    onClosed = resolve; // Node 20, where the server says what it needs, has no Promise.withResolvers
  });
  const lines = new Lines(maxLineBytes);
  let open = false;

  const write = (text: string) =>
    new Promise<void>((resolve, reject) => {
      output.write(text, (error) => (error ? reject(error) : resolve()));
    });
  const refuse = (id: string | number | null, code: number, message: string) => {
    onRefused?.(message);
    write(`${JSON.stringify({ jsonrpc: "2.0", id, error: { code, message } })}\n`).catch(() => {});
  };
  const take = (line: Line) => {
    if (line.tooLong) {
      const message = `The message is longer than ${maxLineBytes} bytes: send less, or use context_dir where it is allowed.`;
      return refuse(idOfEnds(line), ProtocolErrorCode.InvalidRequest, message);
    }
    if (!isUtf8(line.bytes)) return refuse(null, ProtocolErrorCode.ParseError, "The message is not UTF-8.");
    const text = line.bytes.toString();
    if (text.trim() === "") return;
    let value: unknown;
    try {
      value = JSON.parse(text);
    } catch {
      return refuse(null, ProtocolErrorCode.ParseError, "The message is not JSON.");
    }
    let message: JSONRPCMessage;
    try {
      message = parseJSONRPCMessage(value);
    } catch {
      const what = Array.isArray(value) ? "MCP has no batches: send each message on a line of its own." : "";
      return refuse(
        idOf(value),
        ProtocolErrorCode.InvalidRequest,
        what || "The message is not JSON-RPC 2.0 as MCP has it.",
      );
    }
    wire.onmessage?.(message);
  };
  const onData = (chunk: Buffer | string) => {
    for (const line of lines.read(typeof chunk === "string" ? Buffer.from(chunk) : chunk)) {
      if (open) take(line);
    }
  };
  const onEnd = () => void wire.close();
  const onError = (error: Error) => wire.onerror?.(error);
  const onBroken = (error: Error) => {
    if (open) onError(error);
    void wire.close();
  };

  const wire: StdioWire = {
    closed,
    async start() {
      open = true;
      input.on("data", onData).on("error", onError).on("end", onEnd).on("close", onEnd);
      output.on("error", onBroken); // stays: a write may still fail after the end
    },
    async send(message) {
      if (open) await write(serializeMessage(message));
    },
    async close() {
      if (!open) return;
      open = false;
      input.off("data", onData).off("error", onError).off("end", onEnd).off("close", onEnd);
      input.pause();
      wire.onclose?.();
      onClosed();
    },
  };
  return wire;
}

type Line = { tooLong: false; bytes: Buffer } | { tooLong: true; begin: Buffer; end: Buffer };

/** Cuts chunks into lines and holds no more than one line of the longest size. */
class Lines {
  readonly #most: number;
  #parts: Buffer[] = [];
  #bytes = 0;

  constructor(most: number) {
    this.#most = most;
  }

  *read(chunk: Buffer): Generator<Line> {
    let from = 0;
    for (let at = chunk.indexOf(LINE_END); at !== -1; at = chunk.indexOf(LINE_END, from)) {
      this.#add(chunk.subarray(from, at));
      from = at + 1;
      yield this.#cut();
    }
    this.#add(chunk.subarray(from));
  }

  #add(part: Buffer): void {
    this.#bytes += part.length;
    this.#parts.push(part);
    if (this.#bytes <= this.#most) return;
    const all = Buffer.concat(this.#parts);
    this.#parts = [
      Buffer.from(all.subarray(0, ENDS)),
      Buffer.from(all.subarray(Math.max(ENDS, all.length - ENDS))),
    ];
  }

  #cut(): Line {
    const tooLong = this.#bytes > this.#most;
    const all = Buffer.concat(this.#parts);
    this.#parts = [];
    this.#bytes = 0;
    if (!tooLong) return { tooLong, bytes: all };
    return { tooLong, begin: all.subarray(0, ENDS), end: all.subarray(Math.max(0, all.length - ENDS)) };
  }
}

function idOf(value: unknown): string | number | null {
  const id = typeof value === "object" && value !== null && "id" in value ? value.id : null;
  return typeof id === "string" || (typeof id === "number" && Number.isSafeInteger(id)) ? id : null;
}

function idOfEnds(line: { begin: Buffer; end: Buffer }): string | number | null {
  const found = FIRST_ID.exec(line.begin.toString())?.[1] ?? LAST_ID.exec(line.end.toString())?.[1];
  return found === undefined ? null : (JSON.parse(found) as string | number);
}
