// Streams as lines. A line ends at a newline; a carriage return before it is taken off. Memory is bounded:
// of a line that is too long only the beginning is kept, and it is handed on without waiting for its end.

/**
 * @param line without its line end. Of bytes: a view that is valid as long as the chunk it came from.
 * @param isCut whether the line goes on: it had no end within the limit, and the rest of it is passed over.
 */
export type OnLine<Line> = (line: Line, isCut: boolean) => void;

/** Splits text. Keeps at most `maxLength` characters (UTF-16 units) between two calls of `push`. */
export class TextLineSplitter {
  readonly #maxLength: number;
  readonly #onLine: OnLine<string>;
  #partial = "";
  #isPassingOver = false;

  constructor(maxLength: number, onLine: OnLine<string>) {
    this.#maxLength = maxLength;
    this.#onLine = onLine;
  }

  push(text: string): void {
    let from = 0;
    for (let at = text.indexOf("\n"); at >= 0; at = text.indexOf("\n", from)) {
      const rest = text.slice(from, at);
      from = at + 1;
      if (!this.#isPassingOver) this.#end(this.#partial + rest);
      this.#partial = "";
      this.#isPassingOver = false;
    }
    if (this.#isPassingOver) return;
    this.#partial += text.slice(from);
    if (this.#partial.length > this.#maxLength) this.#cut(this.#partial);
  }

  /** Hands on what came after the last newline, if anything. */
  flush(): void {
    if (this.#partial !== "") this.#end(this.#partial);
    this.#partial = "";
    this.#isPassingOver = false;
  }

  #end(line: string): void {
    if (line.length > this.#maxLength) this.#onLine(line.slice(0, this.#maxLength), true);
    else this.#onLine(line.endsWith("\r") ? line.slice(0, -1) : line, false);
  }

  #cut(line: string): void {
    this.#partial = "";
    this.#isPassingOver = true;
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
  #isPassingOver = false;

  /**
   * @param onRest is given what is passed over of a line that was cut, in pieces, the last of which may be
   * empty.
   */
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

  /** The chunk must not change until its last line was handed on. */
  push(chunk: Uint8Array): void {
    let from = 0;
    for (let at = chunk.indexOf(NEWLINE); at >= 0; at = chunk.indexOf(NEWLINE, from)) {
      this.#take(chunk.subarray(from, at), true);
      from = at + 1;
    }
    if (from < chunk.length) this.#take(chunk.subarray(from), false);
  }

  /** Hands on what came after the last newline, if anything. */
  flush(): void {
    if (this.#pending > 0) this.#onLine(withoutReturn(this.#join(NOTHING)), false);
    this.#isPassingOver = false;
  }

  #take(piece: Uint8Array, isEnd: boolean): void {
    if (this.#isPassingOver) {
      this.#isPassingOver = !isEnd;
      this.#onRest?.(piece, isEnd);
      return;
    }
    const room = this.#maxBytes - this.#pending;
    if (piece.length > room) {
      this.#isPassingOver = !isEnd;
      this.#onLine(this.#join(piece.subarray(0, room)), true);
      this.#onRest?.(piece.subarray(room), isEnd);
    } else if (isEnd) this.#onLine(withoutReturn(this.#join(piece)), false);
    else {
      this.#parts.push(piece);
      this.#pending += piece.length;
    }
  }

  /** What is kept and the piece after it, in one; nothing is kept then. */
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
