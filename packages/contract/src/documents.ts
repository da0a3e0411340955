// Small records without a table of their own in the database: challenges, keys, tokens, grants, uploaded
// contexts. The package that writes a kind of document defines its shape; the store only finds, expires and
// removes them.

/** A document as it is stored. `doc` is plain JSON. Times are milliseconds since the epoch. */
export interface StoredDocument<T = unknown> {
  kind: string;
  id: string;
  /** The account that owns it; null if it belongs to the server. */
  owner: string | null;
  /** Documents of one group are removed together: a refresh token's family, an OAuth grant. */
  group: string | null;
  /** A second key, unique within its kind. */
  alias: string | null;
  /** Digest of an artifact that is kept as long as the document exists. */
  artifact: string | null;
  doc: T;
  version: number;
  created_at: number;
  updated_at: number;
  /** From then on reads do not find it, and the sweep removes it. */
  expires_at: number | null;
}

export interface NewDocument<T = unknown> {
  kind: string;
  id: string;
  owner?: string | null;
  group?: string | null;
  alias?: string | null;
  artifact?: string | null;
  doc: T;
  expires_at?: number | null;
}

export interface DocumentQuery {
  kind: string;
  owner?: string;
  group?: string;
  limit: number;
  cursor?: string | null;
}

/** Every method throws only FormationError. An expired document is treated as absent. */
export interface Documents {
  /**
   * Writes a document. `expected` is the version that the caller read, for a compare-and-set: 0 means that
   * there must be none. Without it an existing document is replaced.
   * @throws FormationError `conflict` if the version is another one, or the alias is taken.
   */
  put<T>(document: NewDocument<T>, expected?: number): Promise<StoredDocument<T>>;
  get<T>(kind: string, id: string): Promise<StoredDocument<T> | null>;
  byAlias<T>(kind: string, alias: string): Promise<StoredDocument<T> | null>;
  /**
   * Removes a document and returns it. Of several concurrent callers, in any processes, exactly one gets it.
   */
  take<T>(kind: string, id: string): Promise<StoredDocument<T> | null>;
  remove(kind: string, id: string): Promise<boolean>;
  /** Removes what matches all conditions and returns how many. An owner or a group must be given. */
  removeAll(where: { kinds?: readonly string[]; owner?: string; group?: string }): Promise<number>;
  /** Newest first. */
  list<T>(query: DocumentQuery): Promise<{ items: StoredDocument<T>[]; cursor: string | null }>;
}

/** Counters that all server processes share. */
export interface Counters {
  /**
   * Takes up to `amount` of what is left of `limit` in the current fixed window. Windows begin at multiples
   * of `windowMs` since the epoch.
   * @returns how many were granted (0 to `amount`), and when the next window begins, in milliseconds since
   *   the epoch.
   */
  spend(request: {
    key: string;
    limit: number;
    windowMs: number;
    amount: number;
  }): Promise<{ granted: number; resets_at: number }>;
}
