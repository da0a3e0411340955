// The artifacts port: blobs named by their SHA-256, and append-only logs named by the record they belong to.

/** `sha256:` and 64 hexadecimal digits. */
export type Digest = `sha256:${string}`;

export interface BlobInfo {
  digest: Digest;
  bytes: number;
}

export interface LogLine {
  /** When the line was received, in milliseconds since the epoch. */
  at: number;
  /** `stdout`, `stderr`, `console`, `build`. */
  stream: string;
  /** Untrusted text, unchanged, without its line end. */
  text: string;
}

export interface LogQuery {
  /** Return only these streams. */
  streams?: string[];
  /** Return the last matching lines, this many. 0 returns none, and the cursor from which to follow. */
  tail?: number;
  /** Return only lines at or after this time. */
  since?: number;
  /** Return only lines that contain this text (not a pattern), ignoring case. */
  grep?: string;
  /** Continue after the line that this cursor names. `tail` is then ignored. */
  cursor?: string;
  /**
   * Stop before the texts, each counted with one byte for its line end, exceed this many bytes. One line is
   * always returned, cut if necessary.
   */
  maxBytes: number;
}

export interface LogPage {
  lines: LogLine[];
  /** Where the next page starts. Always present, so that a caller can follow the log. */
  cursor: string;
  /**
   * Whether more lines matched than fit: older ones with `tail`, else newer ones, which the next page
   * returns.
   */
  more: boolean;
}

export interface Artifacts {
  /** Whether other nodes see the same artifacts. */
  readonly shared: boolean;
  /**
   * Stores a stream and returns its digest. The same bytes are stored once. Nothing is left of a stream that
   * fails.
   * @throws FormationError `limit` beyond `maxBytes`, `invalid` if the digest is not `expected`.
   */
  put(
    content: AsyncIterable<Uint8Array>,
    options: { maxBytes: number; expected?: Digest; signal?: AbortSignal },
  ): Promise<BlobInfo>;
  /**
   * The bytes, verified while they are read: a damaged blob ends with an error, and wrong bytes are never
   * returned as a complete blob.
   * @throws FormationError `not_found`; while reading, `internal` for a damaged blob (which is then set
   *   aside).
   */
  get(digest: Digest): Promise<AsyncIterable<Uint8Array>>;
  stat(digest: Digest): Promise<BlobInfo | null>;
  /**
   * Removes blobs that are no root and were put longer than `olderThanMs` ago. Returns the bytes removed. A
   * process that may not remove shared blobs removes only its own copies.
   */
  collect(roots: AsyncIterable<string> | Iterable<string>, olderThanMs: number): Promise<number>;
  /**
   * Appends lines to a record's log, which has one writer at a time. Each of its streams keeps the newest
   * `LIMITS.logBytesPerStream` bytes. Texts over `LIMITS.logLineBytes` are cut.
   * @throws FormationError `invalid` if the name is not a record's (`bld_…`, `bld_….2`) or a stream's name is
   *   not a word.
   */
  appendLog(name: string, lines: LogLine[]): Promise<void>;
  /** Reads a record's log; an unknown name is an empty log. */
  readLog(name: string, query: LogQuery): Promise<LogPage>;
  removeLog(name: string): Promise<void>;
  /** The names of all logs, for the sweep. */
  logNames(): Promise<string[]>;
  close(): Promise<void>;
}
