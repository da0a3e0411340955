// Cuts a stream of bytes into lines. It never holds more than one line of the maximum size: of a longer line it keeps the
// two ends only.

const NEWLINE = 10;
/** How many bytes of each end of a line that is too long are kept, to find its id in them. */
const END_BYTES = 512;

export type Line = { tooLong: false; bytes: Buffer } | { tooLong: true; begin: Buffer; end: Buffer };

export class LineReader {
  readonly #maxBytes: number;
  #parts: Buffer[] = [];
  #bytes = 0;

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  /** The lines that end in this chunk, without their newline. */
  *read(chunk: Buffer): Generator<Line> {
    let from = 0;
    for (let at = chunk.indexOf(NEWLINE); at !== -1; at = chunk.indexOf(NEWLINE, from)) {
      this.#add(chunk.subarray(from, at));
      from = at + 1;
      yield this.#cut();
    }
    this.#add(chunk.subarray(from));
  }

  #add(part: Buffer): void {
    this.#bytes += part.length;
    this.#parts.push(part);
    if (this.#bytes <= this.#maxBytes) return;
    const all = Buffer.concat(this.#parts);
    this.#parts = [
      Buffer.from(all.subarray(0, END_BYTES)),
      Buffer.from(all.subarray(Math.max(END_BYTES, all.length - END_BYTES))),
    ];
  }

  #cut(): Line {
    const tooLong = this.#bytes > this.#maxBytes;
    const all = Buffer.concat(this.#parts);
    this.#parts = [];
    this.#bytes = 0;
    if (!tooLong) return { tooLong, bytes: all };
    const end = all.subarray(Math.max(0, all.length - END_BYTES));
    return { tooLong, begin: all.subarray(0, END_BYTES), end };
  }
}
