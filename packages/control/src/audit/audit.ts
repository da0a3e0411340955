// The audit log: one hash chain for each run of a server process. Refusals and writes are stored before the
// reply is sent, those of one turn of the event loop in one transaction. Reads are gathered and stored in
// batches. This folder knows what is recorded of a call, how lines are chained, and how a log is verified.

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
import { type AuditEntry, type ChainHead, chainEvents, cleanEvent, GENESIS_HASH } from "./chain.ts";

export interface Audit {
  /**
   * Stores a line. With `wait` the promise resolves once the line is stored; without, the line may be stored
   * up to a second later.
   * @throws FormationError `unavailable` if the line can't be stored now, or if too many lines wait to be
   *   stored.
   */
  record(event: AuditEntry, options: { wait: boolean }): Promise<void>;
  /** Stores the gathered lines and seals the chain. After that nothing can be recorded. */
  close(): Promise<void>;
}

export interface AuditOptions {
  store: AuditStore;
  clock?: Clock;
  random?: (bytes: number) => Uint8Array;
  logger?: Logger;
  /** How long a line without `wait` is gathered, in milliseconds. Default: 1 s. */
  gatherMs?: number;
  /** How often the chain is sealed, in milliseconds. Default: a minute. */
  sealEveryMs?: number;
}

/** At this number of gathered lines they are stored at once. */
const GATHERED_LINES = 200;
/** The highest number of lines in one transaction. */
const MAX_TRANSACTION_LINES = 1000;
/** From this number of unstored lines on, every call waits until its line is stored. */
const MUST_WAIT_LINES = 2000;
/**
 * The highest number of lines that wait while the store can't be written; beyond it every call is refused.
 */
const MAX_PENDING_LINES = 10_000;

interface PendingLine {
  event: AuditEvent;
  done?: { resolve(): void; reject(error: unknown): void };
}

/** Opens the audit log of this process. Its chain begins with the first line that is recorded. */
export function openAudit(options: AuditOptions): Audit {
  return new AuditLog(options);
}

class AuditLog implements Audit {
  readonly #store: AuditStore;
  readonly #clock: Clock;
  readonly #random: (bytes: number) => Uint8Array;
  readonly #logger: Logger;
  readonly #gatherMs: number;
  readonly #sealEveryMs: number;
  #chain: string;
  #head: ChainHead = { seq: 0, hash: GENESIS_HASH };
  #sealed = 0;
  #lastAt = 0;
  #pending: PendingLine[] = [];
  /** Lines that were sent to the store and may not be stored: a retry sends the same records. */
  #inFlight: { lines: PendingLine[]; records: AuditRecord[] } | null = null;
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

  async record(event: AuditEntry, { wait }: { wait: boolean }): Promise<void> {
    const pending = this.#pending.length + (this.#inFlight?.lines.length ?? 0);
    if (this.#closed || pending >= MAX_PENDING_LINES) throw unrecordable();
    this.#lastAt = Math.max(this.#lastAt, this.#clock.now());
    const line: PendingLine = { event: cleanEvent(event, this.#lastAt) };
    this.#pending.push(line);
    this.#sealer ??= setInterval(() => void this.#seal(), this.#sealEveryMs).unref();
    if (wait || pending >= MUST_WAIT_LINES) {
      const stored = new Promise<void>((resolve, reject) => {
        line.done = { resolve, reject };
      });
      this.#schedule(true);
      return stored;
    }
    this.#schedule(this.#pending.length >= GATHERED_LINES);
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
    const lost = this.#pending.length + (this.#inFlight?.lines.length ?? 0);
    if (lost > 0) this.#logger.log("error", "Lines of the audit log could not be stored.", { lines: lost });
  }

  /** The id begins with the time, so that `verifyAudit` knows how old the beginning of the chain is. */
  #newChain(): string {
    const time = this.#clock.now().toString(16).padStart(12, "0");
    return `${time}-${Buffer.from(this.#random(16)).toString("hex")}`;
  }

  /**
   * Schedules the storing of the pending lines: urgent ones in this turn of the event loop, together with
   * others of the same turn; the rest when the gathering time is over.
   */
  #schedule(urgent: boolean): void {
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
        if (this.#pending.length > 0 || this.#inFlight) this.#schedule(this.#urgent && !this.#inFlight);
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
    while (this.#inFlight || this.#pending.length > 0) {
      this.#inFlight ??= this.#nextBatch();
      const { lines, records } = this.#inFlight;
      try {
        await this.#append(records);
      } catch (error) {
        this.#rejectWaiters(FormationError.from(error));
        return;
      }
      const last = records.at(-1);
      if (last) this.#head = { seq: last.seq, hash: last.hash };
      this.#inFlight = null;
      for (const { done } of lines) done?.resolve();
    }
  }

  #nextBatch(): { lines: PendingLine[]; records: AuditRecord[] } {
    const lines = this.#pending.splice(0, MAX_TRANSACTION_LINES);
    const events = lines.map(({ event }) => event);
    return { lines, records: chainEvents(this.#chain, this.#head, events) };
  }

  /**
   * Appends records. If the store reports an error although it holds the records (a lost answer), this is no
   * error.
   */
  async #append(records: AuditRecord[]): Promise<void> {
    try {
      await this.#store.append(records);
    } catch (error) {
      const [first] = records;
      if (!first) throw error;
      const [there] = await this.#store.read(this.#chain, first.seq, 1);
      if (there?.hash === first.hash) return;
      if (there) this.#startNewChain(there.seq);
      throw error;
    }
  }

  /**
   * Another process wrote into this chain. The chain stays as it is, so that `verifyAudit` reports it; this
   * process begins another one.
   */
  #startNewChain(seq: number): void {
    this.#logger.log("error", "A line that this process did not write stands in its audit chain.", {
      chain: this.#chain,
      seq,
    });
    this.#pending.unshift(...(this.#inFlight?.lines ?? []));
    this.#inFlight = null;
    this.#chain = this.#newChain();
    this.#head = { seq: 0, hash: GENESIS_HASH };
    this.#sealed = 0;
  }

  /**
   * Rejects the calls that wait. The lines stay pending and are stored as soon as the store can be written.
   */
  #rejectWaiters(cause: FormationError): void {
    this.#logger.log("error", "The audit log can't be written.", { code: cause.code, error: cause.message });
    for (const line of [...(this.#inFlight?.lines ?? []), ...this.#pending]) {
      line.done?.reject(unrecordable(cause));
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
      // The operator's log keeps a copy of the seal that a change of the database does not reach.
      this.#logger.log("info", "The audit log was sealed.", { chain: seal.chain, seq, hash });
    } catch (error) {
      this.#logger.log("warn", "The audit log could not be sealed.", {
        error: FormationError.from(error).message,
      });
    }
  }
}

function unrecordable(cause?: FormationError): FormationError {
  return new FormationError("unavailable", "The call can't be recorded in the audit log now.", {
    remedy: "Try again in a few seconds.",
    ...(cause ? { cause } : {}),
  });
}
