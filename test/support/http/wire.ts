// HTTP/1.1 by hand on a socket: bytes are sent unchanged, in as many parts as wanted, and the reply is parsed
// strictly. No library corrects what a test sends.

import { connect, type Socket } from "node:net";
import { waitFor } from "@formation-mcp/os";

export interface Reply {
  status: number;
  /** Names in lower case; the values of a repeated header are joined with a comma. */
  headers: Record<string, string>;
  body: string;
  /** The raw head. */
  head: string;
}

export interface Request {
  method?: string;
  path?: string;
  /**
   * Headers in this order, unchanged; `host` is added if missing, and `content-length` if there is a body.
   */
  headers?: readonly (readonly [string, string])[];
  body?: string | Uint8Array;
}

const LIMIT_MS = 20_000;

/** The bytes of a request, valid or not. */
export function bytesOf(url: string, { method = "GET", path = "/", headers = [], body }: Request): Buffer {
  const has = (name: string) => headers.some(([each]) => each.toLowerCase() === name);
  const lines = [`${method} ${path} HTTP/1.1`];
  if (!has("host")) lines.push(`Host: ${new URL(url).host}`);
  lines.push(...headers.map(([name, value]) => `${name}: ${value}`));
  const bytes = body === undefined ? Buffer.alloc(0) : Buffer.from(body);
  if (body !== undefined && !has("content-length") && !has("transfer-encoding")) {
    lines.push(`Content-Length: ${bytes.length}`);
  }
  return Buffer.concat([Buffer.from(`${lines.join("\r\n")}\r\n\r\n`, "latin1"), bytes]);
}

/** One connection to a server. */
export class Wire {
  readonly #socket: Socket;
  readonly #method: string[] = [];
  #bytes = Buffer.alloc(0);
  #ended = false;

  private constructor(socket: Socket) {
    this.#socket = socket;
    socket.on("data", (chunk) => {
      this.#bytes = Buffer.concat([this.#bytes, chunk]);
    });
    // A reset counts as the end: the server may close before it has read everything.
    socket.on("error", () => {});
    for (const end of ["end", "close"]) {
      socket.on(end, () => {
        this.#ended = true;
      });
    }
  }

  static async open(url: string): Promise<Wire> {
    const { hostname, port } = new URL(url);
    const socket = connect({ host: hostname, port: Number(port) });
    await new Promise<void>((resolve, reject) => {
      socket.once("connect", resolve);
      socket.once("error", reject);
    });
    socket.setNoDelay(true);
    return new Wire(socket);
  }

  /** Whether the server has ended the connection. */
  get ended(): boolean {
    return this.#ended;
  }

  /** Received bytes that were not parsed as a reply yet. */
  get rest(): string {
    return this.#bytes.toString("latin1");
  }

  write(bytes: string | Uint8Array, method = "GET"): void {
    this.#method.push(method);
    if (!this.#socket.destroyed) this.#socket.write(bytes);
  }

  /** The next reply, or null if the server ended the connection without one. */
  async reply(timeoutMs = LIMIT_MS): Promise<Reply | null> {
    const found = await waitFor(
      () => {
        const parsed = parse(this.#bytes, this.#ended, this.#method[0] ?? "GET");
        if (parsed) return parsed;
        return this.#ended ? ("ended" as const) : null;
      },
      { timeoutMs, everyMs: 3, what: `a reply; so far: ${this.rest.slice(0, 300)}` },
    );
    if (found === "ended") return null;
    this.#method.shift();
    this.#bytes = this.#bytes.subarray(found.length);
    return found.reply;
  }

  async untilEnded(timeoutMs = LIMIT_MS): Promise<void> {
    await waitFor(() => this.#ended, { timeoutMs, everyMs: 5, what: "the server to end the connection" });
  }

  close(): void {
    this.#socket.destroy();
  }
}

/** Sends one request on a new connection and returns the reply. */
export async function send(url: string, request: Request | string | Uint8Array): Promise<Reply | null> {
  const wire = await Wire.open(url);
  try {
    const raw = typeof request === "string" || request instanceof Uint8Array;
    wire.write(raw ? request : bytesOf(url, request), raw ? "GET" : (request.method ?? "GET"));
    return await wire.reply();
  } finally {
    wire.close();
  }
}

/** {@link send}, but a missing reply is an error. */
export async function ask(url: string, request: Request): Promise<Reply> {
  const reply = await send(url, request);
  if (!reply)
    throw new Error(`The server ended the connection without a reply to ${request.method} ${request.path}`);
  return reply;
}

function parse(bytes: Buffer, ended: boolean, method: string): { reply: Reply; length: number } | null {
  const end = bytes.indexOf("\r\n\r\n");
  if (end < 0) return null;
  const head = bytes.subarray(0, end).toString("latin1");
  const [first = "", ...lines] = head.split("\r\n");
  const status = /^HTTP\/1\.[01] (\d{3})(?: |$)/.exec(first)?.[1];
  if (!status) throw new Error(`No HTTP reply: ${JSON.stringify(head.slice(0, 200))}`);
  const headers: Record<string, string> = {};
  for (const line of lines) {
    const at = line.indexOf(":");
    const name = line.slice(0, at);
    if (at < 1 || !/^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/.test(name)) {
      throw new Error(`No header: ${JSON.stringify(line.slice(0, 200))}`);
    }
    const value = line.slice(at + 1).trim();
    const key = name.toLowerCase();
    headers[key] = headers[key] === undefined ? value : `${headers[key]}, ${value}`;
  }
  const start = end + 4;
  const body = bodyOf(bytes.subarray(start), headers, Number(status), ended, method);
  if (!body) return null;
  return {
    reply: { status: Number(status), headers, body: body.text, head },
    length: start + body.length,
  };
}

function bodyOf(
  bytes: Buffer,
  headers: Record<string, string>,
  status: number,
  ended: boolean,
  method: string,
): { text: string; length: number } | null {
  if (method === "HEAD" || status === 204 || status === 304 || status < 200) return { text: "", length: 0 };
  if (headers["transfer-encoding"] === "chunked") return chunked(bytes);
  const length = headers["content-length"];
  if (length === undefined) return ended ? { text: bytes.toString(), length: bytes.length } : null;
  if (bytes.length < Number(length)) return null;
  return { text: bytes.subarray(0, Number(length)).toString(), length: Number(length) };
}

function chunked(bytes: Buffer): { text: string; length: number } | null {
  const parts: Buffer[] = [];
  for (let at = 0; ; ) {
    const end = bytes.indexOf("\r\n", at);
    if (end < 0) return null;
    const size = Number.parseInt(bytes.subarray(at, end).toString("latin1"), 16);
    const next = end + 2 + size + 2;
    if (bytes.length < next) return null;
    if (size === 0) return { text: Buffer.concat(parts).toString(), length: next };
    parts.push(bytes.subarray(end + 2, end + 2 + size));
    at = next;
  }
}
