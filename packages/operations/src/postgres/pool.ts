// Runs scripts as transactions on a small pool of connections. A transaction that met another one, or began
// with a wrong time, is run again. A commit whose answer was lost is looked up by its transaction id.

import { type Clock, FormationError, type Logger } from "@formation-mcp/contract";
import type { CompiledQuery } from "kysely";
import { type ClientConfig, Pool, type PoolClient, type QueryResult } from "pg";
import type { Result, TransactionScript } from "../sql/script.ts";
import { mayBeCommitted } from "./commit-status.ts";
import { scriptConnectionConfig } from "./connection.ts";
import { inDoubt, isDisconnect, isRefusal } from "./errors.ts";
import { NotCommitted, WrongTime, withRetries } from "./retry.ts";
import { hadWrongTime, SingleStatements } from "./single-statement.ts";
import { DatabaseTime, SERVER_TIME } from "./time.ts";

/** Idle connections are closed after so long. */
const IDLE_MS = 60_000;

export interface PoolOptions {
  url: string;
  searchPath: string;
  poolSize: number;
  statementTimeoutMs: number;
  logger: Logger;
  /** Default: the database's. */
  clock: Clock | undefined;
}

interface Written<T> {
  value: T;
  /** How many rows were written. */
  changes: number;
  /** The commit's value of the revision sequence; undefined if it wrote nothing, or its answer was lost. */
  revision: number | undefined;
}

/** What one try of a write got to, for who has to look up its commit. */
interface Try<T> {
  transactionId: string;
  /** Set once all statements ran, before the commit is sent. */
  result: Written<T> | undefined;
}

export class TransactionPool {
  readonly #pool: Pool;
  readonly #config: ClientConfig;
  readonly #sequence: string;
  readonly #time: DatabaseTime;
  /** The names of prepared statements. Each connection prepares a statement when it first runs it. */
  readonly #names = new Map<string, string>();
  readonly #single: SingleStatements;
  /** The first queries of scripts that make more than one. */
  readonly #followed = new Set<string>();
  #closed = false;

  /** @param sequence the sequence of revisions, quoted. */
  constructor(options: PoolOptions, sequence: string) {
    const { url, searchPath, poolSize, statementTimeoutMs, logger, clock } = options;
    this.#sequence = sequence;
    this.#single = new SingleStatements(sequence);
    this.#time = new DatabaseTime(clock);
    this.#config = scriptConnectionConfig(url, searchPath, statementTimeoutMs);
    this.#pool = new Pool({
      ...this.#config,
      max: poolSize,
      idleTimeoutMillis: IDLE_MS,
      pipeline: true,
    } as ClientConfig);
    // Without a listener a broken connection would end the process. The query that used it fails and reports
    // the error.
    this.#pool.on("connect", (client) => client.on("error", () => {}));
    this.#pool.on("error", (error) => {
      logger.log("debug", "An idle connection to the database broke.", { error: error.message });
    });
  }

  /** The database's time, or that of the clock that a test passed in. */
  now(): number {
    return this.#time.now();
  }

  /**
   * Runs a script that only reads; all its queries see one snapshot. A script of one query needs no
   * transaction. Which scripts make more queries is learnt from their first query; such a script is started
   * again in a transaction.
   */
  async read<T>(script: (now: number) => TransactionScript<T>): Promise<T> {
    return await this.#retry(async () => {
      if (this.#time.needsConfirmation()) await this.#withClient((client) => this.#confirmTime(client));
      const single = script(this.#time.now());
      const query = step(single);
      if (query.done) return query.value;
      if (!this.#followed.has(query.value.sql)) {
        const result = await this.#withClient((client) => this.#query(client, query.value));
        const next = step(single, result);
        if (next.done) return next.value;
        this.#followed.add(query.value.sql);
      }
      return await this.#withClient(async (client) => {
        const begun = client.query("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY");
        const { value } = await this.#run(client, begun, script(this.#time.now()));
        // The result does not depend on this commit; a broken connection shows at its next query.
        void client.query("COMMIT").catch(() => {});
        return value;
      });
    });
  }

  /**
   * Runs a script as one transaction at READ COMMITTED. It begins with the extrapolated time while the
   * server's own time is still on its way; if that time turns out to be wrong, the transaction begins again
   * with the server's.
   * @param findResult returns what an earlier try of the script wrote, or undefined; asked after a commit
   *   whose answer was lost.
   * @throws FormationError `unavailable` also if it is unknown whether the transaction was committed.
   */
  async write<T>(
    script: (now: number) => TransactionScript<T>,
    findResult?: (now: number) => TransactionScript<T | undefined>,
  ): Promise<Written<T>> {
    let extrapolate = true;
    return await this.#retry(async () => {
      const attempt: Try<T> = { transactionId: "", result: undefined };
      try {
        return await this.#withClient((client) => this.#tryWrite(client, script, attempt, extrapolate));
      } catch (error) {
        if (error instanceof WrongTime) extrapolate = false;
        const { transactionId, result } = attempt;
        if (!result || !isDisconnect(error)) throw error;
        const isClosed = () => this.#closed;
        if (!(await mayBeCommitted(this.#config, transactionId, error, isClosed))) throw new NotCommitted();
        if (!findResult) throw inDoubt(error);
        const value = await this.read(findResult);
        if (value === undefined) throw new NotCommitted();
        return { ...result, value };
      }
    });
  }

  async #tryWrite<T>(
    client: PoolClient,
    script: (now: number) => TransactionScript<T>,
    attempt: Try<T>,
    extrapolate: boolean,
  ): Promise<Written<T>> {
    let now = this.#time.now();
    const asked = performance.now();
    const begun = client
      .query(`BEGIN; SELECT pg_current_xact_id()::text AS id, ${SERVER_TIME} AS time`)
      .then((results) => {
        const row = (results as unknown as QueryResult[])[1]?.rows[0];
        attempt.transactionId = row.id;
        const time = Number(row.time);
        const inTime = this.#time.confirm(time, asked, performance.now(), now);
        if (!extrapolate) now = Math.floor(time);
        else if (!inTime) throw new WrongTime();
      });
    if (!extrapolate) await begun;
    const { value, changes } = await this.#run(client, begun, script(now));
    if (changes === 0) {
      void client.query("ROLLBACK").catch(() => {});
      return { value, changes, revision: undefined };
    }
    attempt.result = { value, changes, revision: undefined };
    const ends = await client.query(`SELECT nextval('${this.#sequence}') AS revision; COMMIT`);
    const [taken] = ends as unknown as QueryResult[];
    return { ...attempt.result, revision: taken?.rows[0].revision };
  }

  /**
   * Runs a statement that returns what it wrote, as a transaction of its own, in one round trip. With a time
   * that is not the server's it writes and returns nothing.
   * @throws FormationError `unavailable` also if it is unknown whether it was committed: it is never sent
   *   twice.
   */
  async single(statement: (now: number) => CompiledQuery): Promise<{ row: unknown; revision: number }[]> {
    return await this.#retry(() =>
      this.#withClient(async (client) => {
        const now = this.#time.now();
        const { sql, parameters } = statement(now);
        const { name, text } = this.#single.wrap(sql, parameters.length);
        try {
          const values = [...parameters, this.#time.toCompare(now)];
          const { rows } = await client.query({ name, text, values });
          return rows.map(({ row, revision }) => ({ row: JSON.parse(row), revision }));
        } catch (error) {
          if (hadWrongTime(error)) return [];
          throw isDisconnect(error) ? inDoubt(error) : error;
        }
      }),
    );
  }

  /** Runs one statement as it is, without a retry. */
  async query<R>(text: string): Promise<R[]> {
    return await this.#withClient(async (client) => (await client.query(text)).rows as R[]);
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    await this.#pool.end();
  }

  /** Runs all queries of a script. `begun` is sent together with the first one, and awaited here. */
  async #run<T>(
    client: PoolClient,
    begun: Promise<unknown>,
    script: TransactionScript<T>,
  ): Promise<{ value: T; changes: number }> {
    begun.catch(() => {}); // It is awaited below, perhaps after it failed.
    let changes = 0;
    let open = false;
    try {
      let next = step(script);
      while (!next.done) {
        const answer = this.#query(client, next.value);
        if (!open) {
          answer.catch(() => {});
          await begun;
          open = true;
        }
        const result = await answer;
        changes += result.changes;
        next = step(script, result);
      }
      await begun;
      return { value: next.value, changes };
    } catch (error) {
      if (!isDisconnect(error)) void client.query("ROLLBACK").catch(() => {});
      throw error;
    }
  }

  async #confirmTime(client: PoolClient): Promise<void> {
    const asked = performance.now();
    const { rows } = await client.query(`SELECT ${SERVER_TIME} AS time`);
    this.#time.confirm(Number(rows[0].time), asked, performance.now());
  }

  async #query(client: PoolClient, { sql, parameters }: CompiledQuery): Promise<Result> {
    const name = this.#names.get(sql) ?? `q${this.#names.size}`;
    this.#names.set(sql, name);
    const { rows, rowCount, command } = await client.query({ name, text: sql, values: [...parameters] });
    return { rows, changes: command === "SELECT" || command === "LOCK" ? 0 : (rowCount ?? 0) };
  }

  /** Lends a connection. It goes back to the pool unless the error may have broken it. */
  async #withClient<T>(act: (client: PoolClient) => Promise<T>): Promise<T> {
    if (this.#closed) throw closed();
    const client = await this.#pool.connect();
    try {
      const value = await act(client);
      client.release();
      return value;
    } catch (error) {
      const ours = error instanceof FormationError && error.code !== "unavailable";
      client.release(!isRefusal(error) && !ours);
      throw error;
    }
  }

  async #retry<T>(action: () => Promise<T>): Promise<T> {
    return await withRetries(action, () => this.#closed);
  }
}

/** The next step of a script. An error in the script itself is never taken for one of the database. */
function step<T>(script: TransactionScript<T>, ...answer: [] | [Result]): IteratorResult<CompiledQuery, T> {
  try {
    return script.next(...(answer as [Result]));
  } catch (error) {
    throw FormationError.from(error, "The database's answer was not understood.");
  }
}

function closed(): FormationError {
  return new FormationError("unavailable", "The database is closed.", {
    remedy: "The program is stopping; try again when it runs.",
  });
}
