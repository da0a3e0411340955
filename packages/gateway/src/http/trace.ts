// Which request it is, across servers: the trace id of W3C Trace Context (https://www.w3.org/TR/trace-context/), or one of our own.

const TRACEPARENT = /^(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}$/;

/** @param random for a request that brings no trace id, or a broken one. */
export function traceIdOf(traceparent: string | null, random: (bytes: number) => Uint8Array): string {
  return TRACEPARENT.exec(traceparent ?? "")?.[1] ?? Buffer.from(random(16)).toString("hex");
}
