// Small records that a room keeps in the one database without a table of its own: challenges, keys, tokens, grants,
// uploaded contexts. Who keeps them declares their shape; the store knows only how to find, expire and take them.

/** A document as it is stored. `doc` is plain JSON. Times are milliseconds since the epoch. */
export interface StoredDocument<T = unknown> {
  kind: string;
  id: string;
  /** The account that it belongs to; null for what is the server's own. */
  owner: string | null;
  /** What falls together: a refresh token's family, an OAuth grant. */
  group: string | null;
  /** A second name, unique within its kind. */
  alias: string | null;
  /** Digest of an artifact that lives as long as the document does. */
  artifact: string | null;
  doc: T;
  version: number;
  created_at: number;
  updated_at: number;
  /** From then on it is as good as gone, and the sweep removes it. */
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

/** Every method throws FormationError alone. An expired document is treated as one that was never there. */
export interface Documents {
  /**
   * Writes a document. `expected` is the version that the writer read: 0 says that there must be none; left out, whatever
   * is there is replaced.
   * @throws FormationError `conflict` if another version is there, or the alias is taken.
   */
  put<T>(document: NewDocument<T>, expected?: number): Promise<StoredDocument<T>>;
  get<T>(kind: string, id: string): Promise<StoredDocument<T> | null>;
  byAlias<T>(kind: string, alias: string): Promise<StoredDocument<T> | null>;
  /** Removes a document and returns it: of any number of callers, in any number of processes, one gets it. */
  take<T>(kind: string, id: string): Promise<StoredDocument<T> | null>;
  remove(kind: string, id: string): Promise<boolean>;
  /** Removes all that match every condition given, and says how many; at least an owner or a group must be given. */
  removeAll(where: { kinds?: readonly string[]; owner?: string; group?: string }): Promise<number>;
  /** Newest first. */
  list<T>(query: DocumentQuery): Promise<{ items: StoredDocument<T>[]; cursor: string | null }>;
}

/** Counting that all server processes share. */
export interface Counters {
  /**
   * Takes up to `amount` of what is left of `limit` in the window that now falls into (windows begin at whole multiples
   * of `windowMs` since the epoch).
   * @returns how many were granted (0 to `amount`), and when the next window begins.
   */
  spend(request: {
    key: string;
    limit: number;
    windowMs: number;
    amount: number;
  }): Promise<{ granted: number; resets_at: number }>;
}
