// Transactions on a small pool of connections: a script runs from BEGIN to COMMIT on one of them, again if it met another or
// had a wrong time, and a commit whose end was not heard is asked for by its number.

import { setTimeout as delay } from "node:timers/promises";
import { type Clock, FormationError, type Logger } from "@formation-mcp/contract";
import type { CompiledQuery } from "kysely";
import { Client, type ClientConfig, Pool, type PoolClient, type QueryResult } from "pg";
import type { Result, Script } from "../sql/script.ts";
import { asFormationError, inDoubt, isConflict, isDisconnect, isOutdated, isRefusal } from "./errors.ts";
import { DatabaseTime, OFF_MS, TIME } from "./time.ts";

/** How long transactions that meet are run again, and those whose connection broke, in milliseconds. */
const MET_MS = 15_000;
const BROKEN_MS = 1000;
/** How long an unheard commit is asked for. */
const DOUBT_MS = 10_000;
/** A row that another added first is met once more at the most by who looks again; a doubled id is met for ever. */
const DOUBLED = 5;
/** What ends a statement whose time is not the server's. No statement of ours divides. */
const DIVIDED_BY_ZERO = "22012";
/** The server ends a statement by itself; a server that fell silent is given up at most so much later. */
const SILENT_MS = 5000;

export interface PoolOptions {
  url: string;
  searchPath: string;
  poolSize: number;
  statementTimeoutMs: number;
  logger: Logger;
  /** Default: the database's. */
  clock: Clock | undefined;
}

interface Ended<T> {
  value: T;
  changes: number;
  /** The place of this commit among all that changed something; undefined if it changed nothing. */
  revision: number | undefined;
}

export class Transactions {
  readonly #pool: Pool;
  readonly #config: ClientConfig;
  readonly #counter: string;
  readonly #time: DatabaseTime;
  /** The names of prepared statements, which each connection prepares when it first runs one. */
  readonly #names = new Map<string, string>();
  /** What is run alone, by what it was made of. */
  readonly #alone = new Map<string, { name: string; text: string }>();
  /** The first questions of scripts that ask more than one. */
  readonly #followed = new Set<string>();
  #closed = false;

  /** @param counter the sequence that counts commits, quoted. */
  constructor(options: PoolOptions, counter: string) {
    const { url, searchPath, poolSize, statementTimeoutMs, logger, clock } = options;
    this.#counter = counter;
    this.#time = new DatabaseTime(clock);
    this.#config = {
      ...connectionTo(url),
      connectionTimeoutMillis: Math.min(statementTimeoutMs, 5000),
      statement_timeout: statementTimeoutMs,
      query_timeout: statementTimeoutMs + Math.min(statementTimeoutMs, SILENT_MS),
      idle_in_transaction_session_timeout: statementTimeoutMs,
      // Every question has its index, whatever is asked for: to plan it anew each time costs more than to answer it. A bitmap
      // would read all that waits to find the oldest, and each time again what is there no longer.
      options: `-c search_path=${searchPath} -c plan_cache_mode=force_generic_plan -c jit=off -c enable_bitmapscan=off`,
    };
    this.#pool = new Pool({
      ...this.#config,
      max: poolSize,
      idleTimeoutMillis: 60_000,
      pipeline: true,
    } as ClientConfig);
    // Without a listener the break of a connection in use would end the process; whoever uses it is told by his question.
    this.#pool.on("connect", (client) => client.on("error", () => {}));
    this.#pool.on("error", (error) => {
      logger.log("debug", "An idle connection to the database broke.", { error: error.message });
    });
  }

  /** The database's time, or the test's that it was given. */
  now(): number {
    return this.#time.now();
  }

  /** Reads from one moment. A script that asks one thing needs no transaction; which ones ask more is learnt. */
  async read<T>(script: (now: number) => Script<T>): Promise<T> {
    return await this.#again(async () => {
      if (this.#time.isOld()) await this.#on((client) => this.#lookAtTime(client));
      const alone = script(this.#time.now());
      const asked = step(alone);
      if (asked.done) return asked.value;
      if (!this.#followed.has(asked.value.sql)) {
        const answer = await this.#on((client) => this.#query(client, asked.value));
        const answered = step(alone, answer);
        if (answered.done) return answered.value;
        this.#followed.add(asked.value.sql);
      }
      return await this.#on(async (client) => {
        const begun = client.query("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY");
        const { value } = await this.#run(client, begun, script(this.#time.now()));
        void client.query("COMMIT").catch(() => {}); // What was read was read; a broken connection shows itself.
        return value;
      });
    });
  }

  /**
   * Runs a script as one transaction, and returns what it returned and the count of commits if it changed anything. It begins
   * by the counted time, which the server's answer to BEGIN confirms or refutes; refuted, it begins once more by that answer.
   * @param made answers what was made, or undefined, after a commit whose end was not heard.
   */
  async write<T>(
    script: (now: number) => Script<T>,
    made?: (now: number) => Script<T | undefined>,
  ): Promise<Ended<T>> {
    let counted = true;
    return await this.#again(async () => {
      let number = "";
      let result: Ended<T> | undefined;
      try {
        return await this.#on(async (client) => {
          let now = this.#time.now();
          const asked = performance.now();
          const begun = client
            .query(`BEGIN; SELECT pg_current_xact_id()::text AS number, ${TIME} AS time`)
            .then((results) => {
              const row = (results as unknown as QueryResult[])[1]?.rows[0];
              number = row.number;
              const time = Number(row.time);
              const right = this.#time.heard(time, asked, performance.now(), now);
              if (!counted) now = Math.floor(time);
              else if (!right) throw new Untimely();
            });
          if (!counted) await begun;
          const { value, changes } = await this.#run(client, begun, script(now));
          if (changes === 0) {
            void client.query("ROLLBACK").catch(() => {});
            return { value, changes, revision: undefined };
          }
          result = { value, changes, revision: undefined };
          const ends = await client.query(`SELECT nextval('${this.#counter}') AS revision; COMMIT`);
          const [commits] = ends as unknown as QueryResult[];
          return { ...result, revision: commits?.rows[0].revision };
        });
      } catch (error) {
        counted &&= !(error instanceof Untimely);
        if (!result || !isDisconnect(error)) throw error;
        if (!(await this.#mayBeCommitted(number, error))) throw new Undone();
        if (!made) throw inDoubt(error);
        const value = await this.read(made);
        if (value === undefined) throw new Undone();
        return { ...result, value };
      }
    });
  }

  /**
   * Runs a statement that returns what it wrote as a transaction of its own; nothing is written, and nothing returned, by a
   * time that is not the server's.
   * @throws FormationError `unavailable` also if nobody knows whether it was made: it is never sent twice.
   */
  async alone(statement: (now: number) => CompiledQuery): Promise<{ row: unknown; revision: number }[]> {
    return await this.#again(() =>
      this.#on(async (client) => {
        const now = this.#time.now();
        const { sql, parameters } = statement(now);
        const { name, text } = this.#counted(sql, parameters.length);
        try {
          const values = [...parameters, this.#time.claimed(now)];
          const { rows } = await client.query({ name, text, values });
          return rows.map(({ row, revision }) => ({ row: JSON.parse(row), revision }));
        } catch (error) {
          if ((error as { code?: string }).code === DIVIDED_BY_ZERO) return [];
          throw isDisconnect(error) ? inDoubt(error) : error;
        }
      }),
    );
  }

  /** One statement of its own. */
  async ask<R>(text: string): Promise<R[]> {
    return await this.#on(async (client) => (await client.query(text)).rows as R[]);
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    await this.#pool.end();
  }

  async #run<T>(
    client: PoolClient,
    begun: Promise<unknown>,
    script: Script<T>,
  ): Promise<{ value: T; changes: number }> {
    begun.catch(() => {}); // Sent with the first question; it is waited for below.
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

  async #lookAtTime(client: PoolClient): Promise<void> {
    const asked = performance.now();
    const { rows } = await client.query(`SELECT ${TIME} AS time`);
    this.#time.heard(Number(rows[0].time), asked, performance.now());
  }

  /**
   * As one column of JSON: to take in the description of each column costs more than the columns. The last parameter is the
   * time that it writes by; if that is off, a division by zero undoes it.
   */
  #counted(sql: string, parameters: number): { name: string; text: string } {
    let counted = this.#alone.get(sql);
    if (!counted) {
      const timely = `coalesce(abs(${TIME} - $${parameters + 1}::float8) <= ${OFF_MS}, true)::int`;
      const revision = `nextval('${this.#counter}') / ${timely} AS revision`;
      const text = `WITH done AS (${sql}) SELECT to_json(done) AS row, ${revision} FROM done`;
      counted = { name: `a${this.#alone.size}`, text };
      this.#alone.set(sql, counted);
    }
    return counted;
  }

  async #query(client: PoolClient, { sql, parameters }: CompiledQuery): Promise<Result> {
    const name = this.#names.get(sql) ?? `q${this.#names.size}`;
    this.#names.set(sql, name);
    const { rows, rowCount, command } = await client.query({ name, text: sql, values: [...parameters] });
    return { rows, changes: command === "SELECT" || command === "LOCK" ? 0 : (rowCount ?? 0) };
  }

  /** With a connection, which goes back to the pool unless it is not what it was. */
  async #on<T>(act: (client: PoolClient) => Promise<T>): Promise<T> {
    if (this.#closed) throw closed();
    const client = await this.#pool.connect();
    try {
      const value = await act(client);
      client.release();
      return value;
    } catch (error) {
      client.release(
        !(isRefusal(error) || (error instanceof FormationError && error.code !== "unavailable")),
      );
      throw error;
    }
  }

  /** Again, as long as it only met others or lost its connection before anything could be written. */
  async #again<T>(action: () => Promise<T>): Promise<T> {
    const began = performance.now();
    for (let tries = 1; ; tries++) {
      try {
        return await action();
      } catch (error) {
        if (this.#closed || performance.now() - began >= patience(error, tries))
          throw asFormationError(error);
        await delay(Math.min(2 ** tries, 100) * (0.5 + Math.random()));
      }
    }
  }

  /**
   * Whether a transaction may have been committed whose connection broke at its end; false if it certainly was not. A server
   * that crashed may have given its number to another transaction: a number that was committed is no proof.
   * @throws FormationError `unavailable` if the server does not answer.
   */
  async #mayBeCommitted(number: string, cause: unknown): Promise<boolean> {
    const end = performance.now() + DOUBT_MS;
    while (performance.now() < end && !this.#closed) {
      const status = await this.#statusOf(number).catch((error: { code?: string }) =>
        // A number from the future: this server has lost its last moments, or is another one.
        error.code === "22023" ? "aborted" : "unheard",
      );
      if (status === "aborted") return false;
      if (status !== "in progress" && status !== "unheard") return true;
      await delay(100);
    }
    throw inDoubt(cause);
  }

  async #statusOf(number: string): Promise<string | null> {
    const client = new Client(this.#config);
    client.on("error", () => {}); // It fails the query too.
    try {
      await client.connect();
      const { rows } = await client.query("SELECT pg_xact_status($1::text::xid8) AS status", [number]);
      return rows[0]?.status ?? null;
    } finally {
      await client.end().catch(() => {});
    }
  }
}

/** The next step of a script. What it throws is its own, never the database's. */
function step<T>(script: Script<T>, ...answer: [] | [Result]): IteratorResult<CompiledQuery, T> {
  try {
    return script.next(...(answer as [Result]));
  } catch (error) {
    throw FormationError.from(error, "The database's answer was not understood.");
  }
}

/** How every connection is made; numbers of the database become numbers, all else stays text. */
export function connectionTo(url: string): ClientConfig {
  const numbers = new Set([20, 21, 23, 1700]); // int8, int2, int4, numeric
  return {
    connectionString: url,
    application_name: "formation-mcp",
    keepAlive: true,
    types: {
      getTypeParser: (oid: number) =>
        numbers.has(oid) ? Number : oid === 16 ? (value: string) => value === "t" : (value: string) => value,
    } as never,
  };
}

/** A commit that certainly was not made. */
class Undone extends Error {}

/** A transaction that was begun by a time that is not the server's. It is rolled back, and its connection is as good as before. */
class Untimely extends Error {
  readonly code = "40000";
}

/** For how long an action is tried again, in milliseconds from its start. */
function patience(error: unknown, tries: number): number {
  if ((error as { code?: string }).code === "23505" && tries >= DOUBLED) return 0;
  if (isConflict(error) || isOutdated(error)) return MET_MS;
  if (error instanceof Undone || error instanceof Untimely) return MET_MS;
  return isDisconnect(error) ? BROKEN_MS : 0;
}

function closed(): FormationError {
  return new FormationError("unavailable", "The database is closed.", {
    remedy: "The program is stopping; try again when it runs.",
  });
}
