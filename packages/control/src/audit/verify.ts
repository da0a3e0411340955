// Verifies that the audit log is as it was written: every line follows the one before it, every seal fits its
// line, and missing lines were old enough to be removed. It reads only the store. So it can't find out that a
// whole database was rewritten, or that a chain was cut after its last seal: compare with the seals in the
// server's log for that.

import { type AuditRecord, type AuditSeal, LIMITS } from "@formation-mcp/contract";
import type { AuditStore } from "@formation-mcp/operations";
import { GENESIS_HASH, lineHash } from "./chain.ts";

export interface AuditProblem {
  chain: string;
  /** The sequence number of the line. */
  seq: number;
  what: string;
}

export interface AuditVerdict {
  chains: number;
  lines: number;
  /** At most 1,000 problems. */
  problems: AuditProblem[];
}

/** The longest time between a line and its seal. */
const MAX_SEAL_DELAY_MS = 3_600_000;
const PAGE_LINES = 1000;
const MAX_PROBLEMS = 1000;

/**
 * Reads and checks every line that is kept. Lines removed from the front of a chain because of their age are
 * no problem: the store keeps a seal of the last of them.
 * @throws FormationError what the store throws.
 */
export async function verifyAudit(
  store: AuditStore,
  options: { now?: number; keptMs?: number } = {},
): Promise<AuditVerdict> {
  const { now = Date.now(), keptMs = LIMITS.auditKeptMs } = options;
  const removedBefore = now - keptMs;
  const verdict: AuditVerdict = { chains: 0, lines: 0, problems: [] };
  for (const { chain, seals } of await store.chains()) {
    let found = await checkChain(store, chain, seals, removedBefore);
    if (found.problems.length > 0) {
      // The store may remove old lines during the check: a second reading shows the same problem again if it
      // is real.
      const again = (await store.chains()).find((one) => one.chain === chain);
      found = await checkChain(store, chain, again?.seals ?? [], removedBefore);
    }
    verdict.chains += 1;
    verdict.lines += found.lines;
    verdict.problems.push(...found.problems.slice(0, MAX_PROBLEMS - verdict.problems.length));
  }
  return verdict;
}

async function checkChain(
  store: AuditStore,
  chain: string,
  seals: readonly AuditSeal[],
  removedBefore: number,
): Promise<Omit<AuditVerdict, "chains">> {
  const problems: AuditProblem[] = [];
  let lines = 0;
  const check = new ChainCheck(seals, removedBefore, (seq, what) => {
    if (problems.length < MAX_PROBLEMS) problems.push({ chain, seq, what });
  });
  for (let from = 1; ; ) {
    const page = await store.read(chain, from, PAGE_LINES);
    for (const line of page) check.line(line);
    lines += page.length;
    const last = page.at(-1);
    if (!last || page.length < PAGE_LINES) break;
    from = last.seq + 1;
  }
  check.end();
  return { lines, problems };
}

class ChainCheck {
  readonly #seals: Map<number, AuditSeal>;
  /** Lines that are older than this (epoch milliseconds) may have been removed. */
  readonly #removedBefore: number;
  readonly #report: (seq: number, what: string) => void;
  #last: AuditRecord | null = null;

  constructor(
    seals: readonly AuditSeal[],
    removedBefore: number,
    report: (seq: number, what: string) => void,
  ) {
    this.#seals = new Map(seals.map((seal) => [seal.seq, seal]));
    this.#removedBefore = removedBefore;
    this.#report = report;
  }

  line(line: AuditRecord): void {
    const { seq } = line;
    const before = this.#last;
    if (!before) this.#checkStart(seq);
    else if (seq !== before.seq + 1) this.#report(seq, missingLines(before.seq + 1, seq - 1));
    const follows =
      seq === 1 ? GENESIS_HASH : (before?.seq === seq - 1 ? before : this.#seals.get(seq - 1))?.hash;
    if (follows !== undefined && lineHash(follows, line) !== line.hash)
      this.#report(seq, "It does not follow from the line before it: one of the two was changed or moved.");
    if (before && line.at < before.at) this.#report(seq, "It is older than the line before it.");
    const seal = this.#seals.get(seq);
    if (seal && seal.hash !== line.hash) this.#report(seq, "It is not the line that was sealed.");
    this.#last = line;
  }

  end(): void {
    const kept = this.#last?.seq ?? 0;
    const newest = [...this.#seals.values()].reduce<AuditSeal | null>(
      (most, seal) => (most && most.seq > seal.seq ? most : seal),
      null,
    );
    if (!newest || newest.seq <= kept) return;
    // The seal of a chain may remain after all of its lines were removed because of their age.
    if (this.#last || newest.at > this.#removedBefore + MAX_SEAL_DELAY_MS)
      this.#report(newest.seq, missingLines(kept + 1, newest.seq));
  }

  /** If the first line is not number 1, the store must hold an old seal of the line before it. */
  #checkStart(first: number): void {
    if (first === 1) return;
    const before = this.#seals.get(first - 1);
    if (!before || before.at > this.#removedBefore + MAX_SEAL_DELAY_MS)
      this.#report(first, missingLines(1, first - 1));
  }
}

function missingLines(from: number, to: number): string {
  return from === to ? `Line ${from} is missing.` : `Lines ${from} to ${to} are missing.`;
}
