// Whether the audit log is as it was written: every line follows the one before it, every seal fits its line, and what
// is missing was old enough to go. It reads only what is stored, so whoever can rewrite all of it, or cut a chain behind
// its last seal, is seen only by seals kept elsewhere: the server's log has each of them.

import { type AuditRecord, type AuditSeal, LIMITS } from "@formation-mcp/contract";
import type { AuditStore } from "@formation-mcp/operations";
import { GENESIS_HASH, lineHash } from "./chain.ts";

export interface AuditProblem {
  chain: string;
  /** The line that it is about. */
  seq: number;
  what: string;
}

export interface AuditVerdict {
  chains: number;
  lines: number;
  /** The first thousand. */
  problems: AuditProblem[];
}

/** How much later than its line a seal may have been made. */
const MAX_SEAL_DELAY_MS = 3_600_000;
const PAGE_LINES = 1000;
const MAX_PROBLEMS = 1000;

/**
 * Reads every line that is kept. Lines that age removed from the front of a chain are no problem: the store keeps a seal
 * of the last of them.
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
      // Age may have taken lines while they were read: what is really wrong is so again.
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
  /** What is as old may be gone. */
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
    // A chain of which age has left nothing may still have its seal.
    if (this.#last || newest.at > this.#removedBefore + MAX_SEAL_DELAY_MS)
      this.#report(newest.seq, missingLines(kept + 1, newest.seq));
  }

  /** Age leaves a seal of the last line that it took. */
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
