// The audit log: one hash chain for each run of a server process. Refusals and writes are stored before the reply goes
// out, those of the same moment in one transaction; reads are gathered and stored in batches.

import { randomBytes } from "node:crypto";
import {
  type AuditEvent,
  type AuditRecord,
  type Clock,
  FormationError,
  type Logger,
  silentLogger,
  systemClock,
} from "@formation-mcp/contract";
import type { AuditStore } from "@formation-mcp/operations";
import { chained, cleanEvent, type Head, START } from "./chain.ts";

/** What a door or control tells the log; the time is filled in. */
export type Audited = Omit<AuditEvent, "at">;

export interface Audit {
  /**
   * Stores a line; with `wait` the promise resolves once it is stored, else it may be stored up to a second later.
   * @throws FormationError `unavailable` if it can't be stored now, or too much waits to be stored.
   */
  record(event: Audited, options: { wait: boolean }): Promise<void>;
  /** Stores what is gathered and seals the chain; nothing can be recorded from then on. */
  close(): Promise<void>;
}

export interface AuditOptions {
  store: AuditStore;
  clock?: Clock;
  random?: (bytes: number) => Uint8Array;
  logger?: Logger;
  /** For how long a line without `wait` is gathered, in milliseconds. Default: 1 s. */
  gatherMs?: number;
  /** How often the chain is sealed, in milliseconds. Default: a minute. */
  sealEveryMs?: number;
}

/** So many gathered lines are stored without waiting for more. */
const GATHERED = 200;
/** The most lines of one transaction. */
const BATCH = 1000;
/** From so many lines on that wait to be stored, nobody may go on without waiting. */
const CROWDED = 2000;
/** So many may wait while the store can't be written; then every call is refused. */
const MOST = 10_000;

interface Waiting {
  event: AuditEvent;
  done?: { resolve(): void; reject(error: unknown): void };
}

/** Begins a chain; its id and its first line are made when there is something to tell. */
export function createAudit(options: AuditOptions): Audit {
  return new Log(options);
}

class Log implements Audit {
  readonly #store: AuditStore;
  readonly #clock: Clock;
  readonly #random: (bytes: number) => Uint8Array;
  readonly #logger: Logger;
  readonly #gatherMs: number;
  readonly #sealEveryMs: number;
  #chain: string;
  #head: Head = { seq: 0, hash: START };
  #sealed = 0;
  #lastAt = 0;
  #waiting: Waiting[] = [];
  /** What was sent and perhaps not stored: it is sent again as the very same lines. */
  #sent: { lines: Waiting[]; records: AuditRecord[] } | null = null;
  #storing: Promise<void> | null = null;
  #timer: NodeJS.Timeout | NodeJS.Immediate | null = null;
  #urgent = false;
  #sealer: NodeJS.Timeout | null = null;
  #closed = false;

  constructor(options: AuditOptions) {
    this.#store = options.store;
    this.#clock = options.clock ?? systemClock;
    this.#random = options.random ?? randomBytes;
    this.#logger = options.logger ?? silentLogger;
    this.#gatherMs = options.gatherMs ?? 1000;
    this.#sealEveryMs = options.sealEveryMs ?? 60_000;
    this.#chain = this.#newChain();
  }

  async record(event: Audited, { wait }: { wait: boolean }): Promise<void> {
    const crowd = this.#waiting.length + (this.#sent?.lines.length ?? 0);
    if (this.#closed || crowd >= MOST) throw unrecorded();
    this.#lastAt = Math.max(this.#lastAt, this.#clock.now());
    const line: Waiting = { event: cleanEvent(event, this.#lastAt) };
    this.#waiting.push(line);
    this.#sealer ??= setInterval(() => void this.#seal(), this.#sealEveryMs).unref();
    if (wait || crowd >= CROWDED) {
      const stored = new Promise<void>((resolve, reject) => {
        line.done = { resolve, reject };
      });
      this.#due(true);
      return stored;
    }
    this.#due(this.#waiting.length >= GATHERED);
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    if (this.#sealer) clearInterval(this.#sealer);
    this.#unschedule();
    await this.#storing;
    this.#unschedule();
    await this.#storeAll();
    await this.#seal();
    const lost = this.#waiting.length + (this.#sent?.lines.length ?? 0);
    if (lost > 0) this.#logger.log("error", "Lines of the audit log could not be stored.", { lines: lost });
  }

  /** The time stands in front, so that whoever verifies knows how old the chain's beginning is. */
  #newChain(): string {
    const time = this.#clock.now().toString(16).padStart(12, "0");
    return `${time}-${Buffer.from(this.#random(16)).toString("hex")}`;
  }

  /** Sees to it that what waits is stored: in this turn of the loop, together with what else comes in it, or later. */
  #due(urgent: boolean): void {
    if (this.#storing !== null) {
      this.#urgent ||= urgent;
      return;
    }
    if (this.#timer && (this.#urgent || !urgent)) return;
    this.#unschedule();
    this.#urgent = urgent;
    const begin = () => {
      this.#timer = null;
      this.#urgent = false;
      this.#storing = this.#storeAll().finally(() => {
        this.#storing = null;
        if (this.#waiting.length > 0 || this.#sent) this.#due(this.#urgent && !this.#sent);
      });
    };
    this.#timer = urgent ? setImmediate(begin) : setTimeout(begin, this.#gatherMs).unref();
  }

  #unschedule(): void {
    if (this.#timer === null) return;
    clearTimeout(this.#timer as NodeJS.Timeout);
    clearImmediate(this.#timer as NodeJS.Immediate);
    this.#timer = null;
  }

  async #storeAll(): Promise<void> {
    while (this.#sent || this.#waiting.length > 0) {
      this.#sent ??= this.#next();
      const { lines, records } = this.#sent;
      try {
        await this.#append(records);
      } catch (error) {
        this.#refuse(FormationError.from(error));
        return;
      }
      const last = records.at(-1);
      if (last) this.#head = { seq: last.seq, hash: last.hash };
      this.#sent = null;
      for (const { done } of lines) done?.resolve();
    }
  }

  #next(): { lines: Waiting[]; records: AuditRecord[] } {
    const lines = this.#waiting.splice(0, BATCH);
    const events = lines.map(({ event }) => event);
    return { lines, records: chained(this.#chain, this.#head, events) };
  }

  /** A write whose answer was lost is a write: what is there already is not an error. */
  async #append(records: AuditRecord[]): Promise<void> {
    try {
      await this.#store.append(records);
    } catch (error) {
      const [first] = records;
      if (!first) throw error;
      const [there] = await this.#store.read(this.#chain, first.seq, 1);
      if (there?.hash === first.hash) return;
      if (there) this.#startAnew(there.seq);
      throw error;
    }
  }

  /** Somebody else wrote into this chain: it is left as it is, for `verifyAudit` to tell, and another begins. */
  #startAnew(seq: number): void {
    this.#logger.log("error", "A line that this process did not write stands in its audit chain.", {
      chain: this.#chain,
      seq,
    });
    this.#waiting.unshift(...(this.#sent?.lines ?? []));
    this.#sent = null;
    this.#chain = this.#newChain();
    this.#head = { seq: 0, hash: START };
    this.#sealed = 0;
  }

  /** Whoever waits is told; the lines stay, for what happened is stored as soon as it can be. */
  #refuse(cause: FormationError): void {
    this.#logger.log("error", "The audit log can't be written.", { code: cause.code, error: cause.message });
    for (const line of [...(this.#sent?.lines ?? []), ...this.#waiting]) {
      line.done?.reject(unrecorded(cause));
      delete line.done;
    }
  }

  async #seal(): Promise<void> {
    const { seq, hash } = this.#head;
    if (seq === this.#sealed) return;
    const seal = { chain: this.#chain, seq, hash, at: this.#clock.now() };
    try {
      await this.#store.seal(seal);
      this.#sealed = seq;
      // Beyond the reach of whoever can write the database, where the operator's logs are kept elsewhere.
      this.#logger.log("info", "The audit log was sealed.", { chain: seal.chain, seq, hash });
    } catch (error) {
      this.#logger.log("warn", "The audit log could not be sealed.", {
        error: FormationError.from(error).message,
      });
    }
  }
}

function unrecorded(cause?: FormationError): FormationError {
  return new FormationError("unavailable", "The call can't be recorded in the audit log now.", {
    remedy: "Try again in a few seconds.",
    ...(cause ? { cause } : {}),
  });
}
