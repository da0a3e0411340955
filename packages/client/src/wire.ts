// Sends requests to the server: unwraps the envelope, turns errors into FormationErrors, and retries what may
// be sent twice when nothing answers, or when the server asks to try again later.

import { FormationError } from "@formation-mcp/contract";
import { errorOf, isObject, reasonOf, unreachable } from "./errors.ts";
import { jsonOf, type RequestSpec, requestInit, retryAfterMs, urlOf } from "./http-request.ts";
import { cancelled, sleep } from "./sleep.ts";

/** `fetch`, as far as it is used here. */
export type Fetch = (url: string, init: RequestInit) => Promise<Response>;

export interface WireOptions {
  /** The server's origin, without a slash at its end. */
  url: string;
  fetch: Fetch;
  /** How long a request may take that does not wait for an operation, in milliseconds. */
  timeoutMs: number;
  /** From 0 to 1: the jitter of retries. */
  random: () => number;
}

export interface Wire {
  readonly url: string;
  /**
   * Sends a request.
   * @returns the envelope's `data`, or the whole JSON if it has no envelope.
   * @throws FormationError only
   */
  send(request: RequestSpec): Promise<unknown>;
  /** Sends a request and returns as soon as the response's headers are there: for streams. */
  open(request: RequestSpec): Promise<Response>;
}

/** A response whose body may not have arrived yet. */
interface Arrival {
  response: Response;
  /** Aborted when the time is over. */
  timeout: AbortSignal;
  /** Stops the timer. */
  done: () => void;
}

interface Answer {
  response: Response;
  data: unknown;
}

const MAX_ATTEMPTS = 4;
const FIRST_RETRY_MS = 200;
/** A server that asks for a longer pause is reported to the caller instead. */
const MAX_RETRY_MS = 10_000;

export function createWire(options: WireOptions): Wire {
  return {
    url: options.url,
    send: async (request) => (await sendWithRetries(options, request, true)).data,
    open: async (request) => (await sendWithRetries(options, request, false)).response,
  };
}

/** An HTTP error, with the response that it came in. */
class HttpError extends Error {
  readonly error: FormationError;
  readonly response: Response;

  constructor(error: FormationError, response: Response) {
    super(error.message);
    this.error = error;
    this.response = response;
  }
}

/** @param readBody whether to read the response's JSON; without it, `data` is null. */
async function sendWithRetries(
  options: WireOptions,
  request: RequestSpec,
  readBody: boolean,
): Promise<Answer> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await sendOnce(options, request, readBody);
    } catch (error) {
      const thrown = error instanceof HttpError ? error.error : FormationError.from(error);
      const retryAfter = error instanceof HttpError ? retryAfterMs(error.response) : undefined;
      const pause = retryAfter ?? FIRST_RETRY_MS * 2 ** (attempt - 1) * (0.5 + options.random());
      const isTemporary =
        thrown.code === "unavailable" || (thrown.code === "limit" && retryAfter !== undefined);
      // The error of an operation that failed: asking for its outcome again gives the same error.
      const isOutcome = thrown.details.step !== undefined;
      if (
        !request.repeatable ||
        !isTemporary ||
        isOutcome ||
        attempt === MAX_ATTEMPTS ||
        pause > MAX_RETRY_MS
      ) {
        throw thrown;
      }
      await sleep(pause, request.signal);
    }
  }
}

/** @throws HttpError for an error that the server answers; FormationError for everything else */
async function sendOnce(options: WireOptions, request: RequestSpec, readBody: boolean): Promise<Answer> {
  const { url } = options;
  const { response, done, timeout } = await fetchOnce(options, request);
  try {
    if (response.type === "opaqueredirect" || (response.status >= 300 && response.status < 400)) {
      await response.body?.cancel();
      throw new FormationError("invalid", `${url} sends requests elsewhere.`, {
        remedy: "Give the URL that it leads to.",
      });
    }
    if (response.ok && !readBody) return { response, data: null };
    const json = await jsonOf(response).catch((error: unknown) => {
      throw networkError(url, error, request, timeout);
    });
    if (!response.ok) throw new HttpError(errorOf(response.status, json, url), response);
    if (json === undefined) throw unreachable(url, "what answers there is no Formation server");
    return { response, data: isObject(json) && "status" in json && "data" in json ? json["data"] : json };
  } finally {
    done();
  }
}

async function fetchOnce(options: WireOptions, request: RequestSpec): Promise<Arrival> {
  const { url } = options;
  const timeout = new AbortController();
  const ms = (request.timeoutMs ?? options.timeoutMs) + (request.waitsMs ?? 0);
  const timer = setTimeout(() => timeout.abort(), ms);
  const done = () => clearTimeout(timer);
  try {
    const signal = request.signal ? AbortSignal.any([request.signal, timeout.signal]) : timeout.signal;
    const response = await options.fetch(urlOf(url, request), requestInit(request, signal));
    return { response, done, timeout: timeout.signal };
  } catch (error) {
    done();
    throw networkError(url, error, request, timeout.signal);
  }
}

function networkError(
  url: string,
  error: unknown,
  { signal }: RequestSpec,
  timeout: AbortSignal,
): FormationError {
  if (error instanceof FormationError) return error;
  if (signal?.aborted) return cancelled(error);
  if (timeout.aborted) return unreachable(url, "it did not answer in time", error);
  return unreachable(url, reasonOf(error), error);
}
