// Splits streams of text or bytes into lines. A line ends at a newline; a carriage return before it is
// removed. Memory is bounded: a line that is too long is cut at the limit, reported at once, and its rest is
// skipped.

/**
 * @param line without its line end. A line of bytes is a view: it is valid as long as the chunk it came from.
 * @param isCut whether the line was longer than the limit and was cut there.
 */
export type OnLine<Line> = (line: Line, isCut: boolean) => void;

/** Splits text. Keeps at most `maxLength` characters (UTF-16 units) between two calls of `push`. */
export class TextLineSplitter {
  readonly #maxLength: number;
  readonly #onLine: OnLine<string>;
  #partial = "";
  #isSkipping = false;

  constructor(maxLength: number, onLine: OnLine<string>) {
    this.#maxLength = maxLength;
    this.#onLine = onLine;
  }

  push(text: string): void {
    let from = 0;
    for (let at = text.indexOf("\n"); at >= 0; at = text.indexOf("\n", from)) {
      const rest = text.slice(from, at);
      from = at + 1;
      if (!this.#isSkipping) this.#end(this.#partial + rest);
      this.#partial = "";
      this.#isSkipping = false;
    }
    if (this.#isSkipping) return;
    this.#partial += text.slice(from);
    if (this.#partial.length > this.#maxLength) this.#cut(this.#partial);
  }

  /** Reports what came after the last newline, if anything, as a line. */
  flush(): void {
    if (this.#partial !== "") this.#end(this.#partial);
    this.#partial = "";
    this.#isSkipping = false;
  }

  #end(line: string): void {
    if (line.length > this.#maxLength) this.#onLine(line.slice(0, this.#maxLength), true);
    else this.#onLine(line.endsWith("\r") ? line.slice(0, -1) : line, false);
  }

  #cut(line: string): void {
    this.#partial = "";
    this.#isSkipping = true;
    this.#onLine(line.slice(0, this.#maxLength), true);
  }
}

/** Splits bytes, of which it keeps at most `maxBytes` between two calls of `push`. */
export class ByteLineSplitter {
  readonly #maxBytes: number;
  readonly #onLine: OnLine<Uint8Array>;
  readonly #onRest: ((piece: Uint8Array, isEnd: boolean) => void) | undefined;
  #parts: Uint8Array[] = [];
  #pending = 0;
  #isSkipping = false;

  /** @param onRest gets the skipped rest of each cut line in pieces; the last piece may be empty. */
  constructor(
    maxBytes: number,
    onLine: OnLine<Uint8Array>,
    onRest?: (piece: Uint8Array, isEnd: boolean) => void,
  ) {
    this.#maxBytes = maxBytes;
    this.#onLine = onLine;
    this.#onRest = onRest;
  }

  /** Bytes kept that belong to no whole line yet. */
  get pending(): number {
    return this.#pending;
  }

  /** The chunk must not change until its last line was reported. */
  push(chunk: Uint8Array): void {
    let from = 0;
    for (let at = chunk.indexOf(NEWLINE); at >= 0; at = chunk.indexOf(NEWLINE, from)) {
      this.#take(chunk.subarray(from, at), true);
      from = at + 1;
    }
    if (from < chunk.length) this.#take(chunk.subarray(from), false);
  }

  /** Reports what came after the last newline, if anything, as a line. */
  flush(): void {
    if (this.#pending > 0) this.#onLine(withoutReturn(this.#join(NOTHING)), false);
    this.#isSkipping = false;
  }

  #take(piece: Uint8Array, isEnd: boolean): void {
    if (this.#isSkipping) {
      this.#isSkipping = !isEnd;
      this.#onRest?.(piece, isEnd);
      return;
    }
    const room = this.#maxBytes - this.#pending;
    if (piece.length > room) {
      this.#isSkipping = !isEnd;
      this.#onLine(this.#join(piece.subarray(0, room)), true);
      this.#onRest?.(piece.subarray(room), isEnd);
    } else if (isEnd) this.#onLine(withoutReturn(this.#join(piece)), false);
    else {
      this.#parts.push(piece);
      this.#pending += piece.length;
    }
  }

  /** Takes the kept bytes and puts the piece after them. */
  #join(piece: Uint8Array): Uint8Array {
    if (this.#pending === 0) return piece;
    const line = new Uint8Array(this.#pending + piece.length);
    let at = 0;
    for (const part of [...this.#parts, piece]) {
      line.set(part, at);
      at += part.length;
    }
    this.#parts = [];
    this.#pending = 0;
    return line;
  }
}

const NEWLINE = 10;
const RETURN = 13;
const NOTHING = new Uint8Array(0);

function withoutReturn(line: Uint8Array): Uint8Array {
  return line.at(-1) === RETURN ? line.subarray(0, -1) : line;
}
