// The trace id of a request: from W3C Trace Context (https://www.w3.org/TR/trace-context/), or a new one.

const TRACEPARENT = /^(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}$/;

const ID_BYTES = 16;
/** Random bytes are drawn for this many ids at once: a draw costs more than its bytes. */
const IDS_PER_DRAW = 256;

/**
 * Makes the function from a `traceparent` header to a trace id of 32 hexadecimal digits.
 * @param random for requests without a valid header.
 */
export function createTraceIds(
  random: (bytes: number) => Uint8Array,
): (traceparent: string | null) => string {
  let drawn = Buffer.alloc(0);
  return (traceparent) => {
    const received = TRACEPARENT.exec(traceparent ?? "")?.[1];
    if (received !== undefined) return received;
    if (drawn.length === 0) drawn = Buffer.from(random(ID_BYTES * IDS_PER_DRAW));
    const id = drawn.toString("hex", 0, ID_BYTES);
    drawn = drawn.subarray(ID_BYTES);
    return id;
  };
}
