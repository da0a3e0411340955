// How one statement becomes a transaction of its own: it also takes the next revision, and it writes nothing
// if the time it was given is not the server's.

import { MAX_SKEW_MS, SERVER_TIME } from "./time.ts";

/** A wrong time divides by zero, which rolls the statement back. No statement of the store divides. */
const DIVISION_BY_ZERO = "22012";

/** Whether a single statement was rolled back because of its time. */
export function hadWrongTime(error: unknown): boolean {
  return (error as { code?: string }).code === DIVISION_BY_ZERO;
}

export interface PreparedStatement {
  name: string;
  text: string;
}

/** Wraps statements, and names each wrapped one for the connections that prepare it. */
export class SingleStatements {
  readonly #sequence: string;
  readonly #wrapped = new Map<string, PreparedStatement>();

  /** @param sequence the sequence of revisions, quoted. */
  constructor(sequence: string) {
    this.#sequence = sequence;
  }

  /**
   * Wraps a statement that returns what it wrote. A row comes back as one JSON column, because the
   * description of many columns costs more than their values. The last parameter is the time to compare, or
   * null.
   */
  wrap(sql: string, parameters: number): PreparedStatement {
    let wrapped = this.#wrapped.get(sql);
    if (!wrapped) {
      const skew = `abs(${SERVER_TIME} - $${parameters + 1}::float8)`;
      const inTime = `coalesce(${skew} <= ${MAX_SKEW_MS}, true)::int`;
      const revision = `nextval('${this.#sequence}') / ${inTime} AS revision`;
      const text = `WITH done AS (${sql}) SELECT to_json(done) AS row, ${revision} FROM done`;
      wrapped = { name: `a${this.#wrapped.size}`, text };
      this.#wrapped.set(sql, wrapped);
    }
    return wrapped;
  }
}
