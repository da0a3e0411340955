// How a request is turned into a fetch, and how the body and the headers of a response are read.

/** A request, before it is sent. */
export interface RequestSpec {
  method: "GET" | "POST" | "PUT" | "DELETE";
  /** From the origin on: `/api/tools`. */
  path: string;
  query?: Readonly<Record<string, string | number | undefined>>;
  json?: unknown;
  body?: NonNullable<RequestInit["body"]>;
  headers?: Readonly<Record<string, string>>;
  token?: string;
  /** Whether sending it twice does no harm, so that it may be retried. */
  repeatable: boolean;
  signal?: AbortSignal | undefined;
  /** Timeout in milliseconds, in place of the wire's own. */
  timeoutMs?: number;
  /**
   * How long the server may wait for an operation before it answers, in milliseconds: added to the timeout.
   */
  waitsMs?: number;
}

const MAX_RESPONSE_BYTES = 32 * 1024 * 1024;

export function urlOf(origin: string, { path, query = {} }: RequestSpec): string {
  const params = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) if (value !== undefined) params.set(name, String(value));
  const text = params.toString();
  return `${origin}${path}${text === "" ? "" : `?${text}`}`;
}

export function requestInit(request: RequestSpec, signal: AbortSignal): RequestInit {
  const body = request.json === undefined ? request.body : JSON.stringify(request.json);
  return {
    method: request.method,
    headers: {
      accept: "application/json",
      ...(request.json === undefined ? {} : { "content-type": "application/json" }),
      ...(request.token === undefined ? {} : { authorization: `Bearer ${request.token}` }),
      ...request.headers,
    },
    ...(body === undefined ? {} : { body }),
    // A streamed body needs half duplex (https://fetch.spec.whatwg.org/#dom-requestinit-duplex).
    ...(body instanceof ReadableStream ? { duplex: "half" as const } : {}),
    redirect: "manual",
    credentials: "omit",
    signal,
  };
}

/** The JSON of a response; undefined if it is not JSON, or larger than 32 MiB. */
export async function jsonOf(response: Response): Promise<unknown> {
  const parts: Uint8Array[] = [];
  let bytes = 0;
  const reader = response.body?.getReader();
  for (let part = await reader?.read(); part && !part.done; part = await reader?.read()) {
    bytes += part.value.length;
    if (bytes > MAX_RESPONSE_BYTES) {
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

/** `Retry-After` in milliseconds, from seconds or a date (RFC 9110 §10.2.3). */
export function retryAfterMs(response: Response): number | undefined {
  const text = response.headers.get("retry-after");
  if (text === null) return undefined;
  const ms = /^\d+$/.test(text) ? Number(text) * 1000 : Date.parse(text) - Date.now();
  return Number.isNaN(ms) ? undefined : Math.max(0, ms);
}
