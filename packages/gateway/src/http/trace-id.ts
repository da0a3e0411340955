// Which request it is, across servers: the trace id of W3C Trace Context (https://www.w3.org/TR/trace-context/), or one of our own.

const TRACEPARENT = /^(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}$/;

const ID_BYTES = 16;
/** So many ids are drawn at a time: drawing costs more than the bytes. */
const DRAWN = 256;

/**
 * Tells a request's trace id from its `traceparent`, or gives it one.
 * @param random for requests that bring none, or a broken one.
 */
export function traceIds(random: (bytes: number) => Uint8Array): (traceparent: string | null) => string {
  let drawn = Buffer.alloc(0);
  return (traceparent) => {
    const brought = TRACEPARENT.exec(traceparent ?? "")?.[1];
    if (brought !== undefined) return brought;
    if (drawn.length === 0) drawn = Buffer.from(random(ID_BYTES * DRAWN));
    const id = drawn.toString("hex", 0, ID_BYTES);
    drawn = drawn.subarray(ID_BYTES);
    return id;
  };
}
