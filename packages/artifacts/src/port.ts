// The artifacts port: blobs named by their SHA-256, and append-only logs named by the record they belong to.

/** `sha256:` and 64 hexadecimal digits. */
export type Digest = `sha256:${string}`;

export interface BlobInfo {
  digest: Digest;
  bytes: number;
}

export interface LogLine {
  /** Milliseconds since the epoch when the line was taken over. */
  at: number;
  /** `stdout`, `stderr`, `console`, `build`. */
  stream: string;
  /** Untrusted text, as it came, without its line end. */
  text: string;
}

export interface LogQuery {
  /** Only these streams. */
  streams?: string[];
  /** The last so many lines that match; 0 gives none, and the cursor to follow from now. */
  tail?: number;
  /** Only lines at or after this time. */
  since?: number;
  /** Only lines that contain this text (no pattern language), case ignored. */
  grep?: string;
  /** Go on after the line this cursor names; `tail` is ignored then. */
  cursor?: string;
  /** Stop before the texts, each with one byte for its line end, exceed this many bytes. One line is always given, cut if need be. */
  maxBytes: number;
}

export interface LogPage {
  lines: LogLine[];
  /** Where the next page begins; always given, so that a caller can follow. */
  cursor: string;
  /** Whether more lines matched than fit: with `tail` older ones, else newer ones, which the next page has. */
  more: boolean;
}

export interface Artifacts {
  /** Whether other nodes see the same artifacts. */
  readonly shared: boolean;
  /**
   * Stores a stream and returns its digest; the same bytes are stored once. Nothing is left of a stream that fails.
   * @throws FormationError `limit` beyond `maxBytes`, `invalid` if `expected` is another digest.
   */
  put(
    content: AsyncIterable<Uint8Array>,
    options: { maxBytes: number; expected?: Digest; signal?: AbortSignal },
  ): Promise<BlobInfo>;
  /**
   * The bytes, verified while they are read: a damaged blob ends in an error, never in wrong bytes taken for right.
   * @throws FormationError `not_found`; while reading, `internal` for a damaged blob (which is then set aside).
   */
  get(digest: Digest): Promise<AsyncIterable<Uint8Array>>;
  stat(digest: Digest): Promise<BlobInfo | null>;
  /**
   * Removes blobs that are no root and were put longer than `olderThanMs` ago. Returns how many bytes went. Where blobs are
   * shared, whoever may not remove them clears its own copies.
   */
  collect(roots: AsyncIterable<string> | Iterable<string>, olderThanMs: number): Promise<number>;
  /**
   * Appends lines to a record's log, one writer at a time; each stream of it keeps the newest
   * `LIMITS.logBytesPerStream` bytes. Texts over `LIMITS.logLineBytes` are cut.
   * @throws FormationError `invalid` if the name is no record's (`bld_…`, `bld_….2`) or a stream's name no word.
   */
  appendLog(name: string, lines: LogLine[]): Promise<void>;
  /** Reads a record's log; an unknown name is an empty log. */
  readLog(name: string, query: LogQuery): Promise<LogPage>;
  removeLog(name: string): Promise<void>;
  /** The names of all logs, for the sweep. */
  logNames(): Promise<string[]>;
  close(): Promise<void>;
}
