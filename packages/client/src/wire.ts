// How a request goes to the server and comes back: the envelope is opened, an error becomes ours, and what may safely be
// sent twice is sent again when nothing, or a server that asks for patience, answers.

import { FormationError } from "@formation-mcp/contract";
import { errorOf, isObject, reasonOf, unreachable } from "./errors.ts";

/** `fetch`, as far as it is used here. */
export type Fetch = (url: string, init: RequestInit) => Promise<Response>;

export interface WireOptions {
  /** The server's origin without a slash at its end. */
  url: string;
  fetch: Fetch;
  /** How long a request may take that does not wait for anything, in milliseconds. */
  timeoutMs: number;
  random: () => number;
}

export interface Ask {
  method: "GET" | "POST" | "PUT" | "DELETE";
  /** From the origin on: `/api/tools`. */
  path: string;
  query?: Readonly<Record<string, string | number | undefined>>;
  json?: unknown;
  body?: NonNullable<RequestInit["body"]>;
  headers?: Readonly<Record<string, string>>;
  token?: string;
  /** Whether a second one does no harm, so that it is tried again. */
  repeatable: boolean;
  signal?: AbortSignal | undefined;
  /** Instead of the usual limit. */
  timeoutMs?: number;
  /** How long the server may wait for something before it answers: beyond the limit. */
  waitsMs?: number;
}

export interface Wire {
  readonly url: string;
  /** Sends and returns the envelope's `data`, or the whole of a JSON that has no envelope. Throws FormationError alone. */
  send(ask: Ask): Promise<unknown>;
  /** Sends and returns the answer once its head is there: for streams. */
  open(ask: Ask): Promise<Response>;
}

interface Answer {
  response: Response;
  /** Rings when the time is over; `done` makes it silent. */
  limit: AbortSignal;
  done: () => void;
}

const TRIES = 4;
const FIRST_PAUSE_MS = 200;
/** A server that asks for more patience than this is told to the caller instead. */
const LONGEST_PAUSE_MS = 10_000;
const MOST_BYTES = 32 * 1024 * 1024;

export function createWire(options: WireOptions): Wire {
  const { url } = options;

  async function once(ask: Ask): Promise<Answer> {
    const limit = new AbortController();
    const timer = setTimeout(() => limit.abort(), (ask.timeoutMs ?? options.timeoutMs) + (ask.waitsMs ?? 0));
    const done = () => clearTimeout(timer);
    try {
      const signal = ask.signal ? AbortSignal.any([ask.signal, limit.signal]) : limit.signal;
      const response = await options.fetch(address(url, ask), requestOf(ask, signal));
      return { response, done, limit: limit.signal };
    } catch (error) {
      done();
      throw failure(error, ask, limit.signal);
    }
  }

  function failure(error: unknown, { signal }: Ask, limit: AbortSignal): FormationError {
    if (error instanceof FormationError) return error;
    if (signal?.aborted) return new FormationError("cancelled", "The call was cancelled.", { cause: error });
    if (limit.aborted) return unreachable(url, "it did not answer in time", error);
    return unreachable(url, reasonOf(error), error);
  }

  async function answered(ask: Ask, read: boolean): Promise<{ response: Response; data: unknown }> {
    const { response, done, limit } = await once(ask);
    try {
      if (response.type === "opaqueredirect" || (response.status >= 300 && response.status < 400)) {
        await response.body?.cancel();
        throw new FormationError("invalid", `${url} sends requests elsewhere.`, {
          remedy: "Give the URL that it leads to.",
        });
      }
      if (response.ok && !read) return { response, data: null };
      const json = await jsonOf(response).catch((error: unknown) => {
        throw failure(error, ask, limit);
      });
      if (!response.ok) throw new Refusal(errorOf(response.status, json, url), response);
      if (json === undefined) throw unreachable(url, "what answers there is no Formation server");
      return { response, data: isObject(json) && "status" in json && "data" in json ? json["data"] : json };
    } finally {
      done();
    }
  }

  async function patiently(ask: Ask, read: boolean): Promise<{ response: Response; data: unknown }> {
    for (let attempt = 1; ; attempt++) {
      try {
        return await answered(ask, read);
      } catch (error) {
        const thrown = error instanceof Refusal ? error.error : FormationError.from(error);
        const after = error instanceof Refusal ? retryAfter(error.response) : undefined;
        const pause = after ?? FIRST_PAUSE_MS * 2 ** (attempt - 1) * (0.5 + options.random());
        const hopeful = thrown.code === "unavailable" || (thrown.code === "limit" && after !== undefined);
        // An operation that failed fails the same way when its outcome is asked for again.
        const outcome = thrown.details.step !== undefined;
        if (!ask.repeatable || !hopeful || outcome || attempt === TRIES || pause > LONGEST_PAUSE_MS)
          throw thrown;
        await rest(pause, ask.signal);
      }
    }
  }

  return {
    url,
    send: async (ask) => (await patiently(ask, true)).data,
    open: async (ask) => (await patiently(ask, false)).response,
  };
}

/** An error together with the answer that it came in. */
class Refusal extends Error {
  readonly error: FormationError;
  readonly response: Response;

  constructor(error: FormationError, response: Response) {
    super(error.message);
    this.error = error;
    this.response = response;
  }
}

/**
 * The origin of a server.
 * @throws FormationError `invalid` for what is no URL of one, and for plain HTTP beyond this machine: tokens are sent there.
 */
export function originOf(text: string, allowHttp: boolean): string {
  const refuse = (message: string, remedy: string) =>
    new FormationError("invalid", message, { field: "url", remedy });
  const url = URL.canParse(text) ? new URL(text) : null;
  if (!url || !["https:", "http:"].includes(url.protocol)) {
    throw refuse("The server's URL is no URL.", "Write it as https://vm.example.org");
  }
  if (url.username || url.password || url.search || url.hash || !/^\/(mcp|api)?\/?$/.test(url.pathname)) {
    throw refuse("The server's URL is more than an origin.", `Write it as ${url.origin}`);
  }
  const here = /^(localhost|127(\.\d+){3}|\[::1\])$/.test(url.hostname);
  if (url.protocol === "http:" && !here && !allowHttp) {
    throw refuse(
      `${url.origin} is plain HTTP: keys' signatures and tokens could be read on the way.`,
      "Use https://, or allow plain HTTP if the network between is yours alone (allowHttp, FORMATION_ALLOW_HTTP=yes).",
    );
  }
  return url.origin;
}

/** Waits, and throws `cancelled` as soon as the signal says so. */
export async function rest(ms: number, signal?: AbortSignal): Promise<void> {
  await new Promise<void>((resolve) => {
    const end = () => {
      clearTimeout(timer);
      signal?.removeEventListener("abort", end);
      resolve();
    };
    const timer = setTimeout(end, signal?.aborted ? 0 : ms);
    signal?.addEventListener("abort", end, { once: true });
  });
  if (signal?.aborted) throw new FormationError("cancelled", "The call was cancelled.");
}

function address(url: string, { path, query = {} }: Ask): string {
  const given = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) if (value !== undefined) given.set(name, String(value));
  const text = given.toString();
  return `${url}${path}${text === "" ? "" : `?${text}`}`;
}

function requestOf(ask: Ask, signal: AbortSignal): RequestInit {
  const body = ask.json === undefined ? ask.body : JSON.stringify(ask.json);
  return {
    method: ask.method,
    headers: {
      accept: "application/json",
      ...(ask.json === undefined ? {} : { "content-type": "application/json" }),
      ...(ask.token === undefined ? {} : { authorization: `Bearer ${ask.token}` }),
      ...ask.headers,
    },
    ...(body === undefined ? {} : { body }),
    // A body that is a stream goes out while the answer may already come in (https://fetch.spec.whatwg.org/#dom-requestinit-duplex).
    ...(body instanceof ReadableStream ? { duplex: "half" as const } : {}),
    redirect: "manual",
    credentials: "omit",
    signal,
  };
}

/** The JSON of an answer, or undefined if it is none. */
async function jsonOf(response: Response): Promise<unknown> {
  const parts: Uint8Array[] = [];
  let bytes = 0;
  const reader = response.body?.getReader();
  for (let part = await reader?.read(); part && !part.done; part = await reader?.read()) {
    bytes += part.value.length;
    if (bytes > MOST_BYTES) {
      await reader?.cancel();
      return undefined;
    }
    parts.push(part.value);
  }
  const whole = new Uint8Array(bytes);
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  try {
    return JSON.parse(new TextDecoder().decode(whole));
  } catch {
    return undefined;
  }
}

/** Milliseconds, from seconds or a date (RFC 9110 §10.2.3). */
function retryAfter(response: Response): number | undefined {
  const text = response.headers.get("retry-after");
  if (text === null) return undefined;
  const ms = /^\d+$/.test(text) ? Number(text) * 1000 : Date.parse(text) - Date.now();
  return Number.isNaN(ms) ? undefined : Math.max(0, ms);
}
