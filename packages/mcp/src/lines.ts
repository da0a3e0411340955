// The lines of a stream of bytes. Of a line that is longer than the maximum only the two ends are kept.

import { ByteLineSplitter } from "@formation-mcp/base";

/** How many bytes of each end of a line that is too long are kept, to find its id in them. */
const END_BYTES = 512;

export type Line =
  | { tooLong: false; bytes: Uint8Array }
  | { tooLong: true; begin: Uint8Array; end: Uint8Array };

/** Calls `onLine` at the end of each line; holds no more than one line of the maximum size. */
export function createLineReader(maxBytes: number, onLine: (line: Line) => void): ByteLineSplitter {
  let begin = new Uint8Array(0);
  let end = new Uint8Array(0);
  return new ByteLineSplitter(
    maxBytes,
    (bytes, isCut) => {
      if (!isCut) return onLine({ tooLong: false, bytes });
      // Copies: the line itself is not to be kept.
      begin = new Uint8Array(bytes.subarray(0, END_BYTES));
      end = new Uint8Array(bytes.subarray(-END_BYTES));
    },
    (piece, isEnd) => {
      end = Buffer.concat([end, piece.subarray(-END_BYTES)]).subarray(-END_BYTES);
      if (isEnd) onLine({ tooLong: true, begin, end });
    },
  );
}
