// Whether the audit log is as it was written: every line follows the one before it, every seal fits its line, and what
// is missing was old enough to go. It reads only what is stored, so whoever can rewrite all of it, or cut a chain behind
// its last seal, is seen only by seals kept elsewhere: the server's log has each of them.

import { type AuditRecord, type AuditSeal, LIMITS } from "@formation-mcp/contract";
import type { AuditStore } from "@formation-mcp/operations";
import { lineHash, START } from "./audit-chain.ts";

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

const PAGE = 1000;
const MOST = 1000;

/**
 * Reads every line that is kept. Lines that age removed from the front of a chain are no problem; the first line that is
 * kept after them is held by the line after it, or by a seal of the line before it.
 * @throws FormationError what the store throws.
 */
export async function verifyAudit(
  store: AuditStore,
  options: { now?: number; keptMs?: number } = {},
): Promise<AuditVerdict> {
  const { now = Date.now(), keptMs = LIMITS.auditKeptMs } = options;
  const problems: AuditProblem[] = [];
  let lines = 0;
  const chains = await store.chains();
  for (const { chain, seals } of chains) {
    const check = new ChainCheck(chain, seals, now - keptMs, (seq, what) => {
      if (problems.length < MOST) problems.push({ chain, seq, what });
    });
    for (let from = 1; ; ) {
      const page = await store.read(chain, from, PAGE);
      for (const line of page) check.line(line);
      lines += page.length;
      const last = page.at(-1);
      if (!last || page.length < PAGE) break;
      from = last.seq + 1;
    }
    check.end();
  }
  return { chains: chains.length, lines, problems };
}

class ChainCheck {
  readonly #chain: string;
  readonly #seals: Map<number, AuditSeal>;
  /** What is older may be gone. */
  readonly #old: number;
  readonly #tell: (seq: number, what: string) => void;
  #last: AuditRecord | null = null;

  constructor(
    chain: string,
    seals: readonly AuditSeal[],
    old: number,
    tell: (seq: number, what: string) => void,
  ) {
    this.#chain = chain;
    this.#seals = new Map(seals.map((seal) => [seal.seq, seal]));
    this.#old = old;
    this.#tell = tell;
  }

  line(line: AuditRecord): void {
    const { seq } = line;
    const before = this.#last;
    if (!before) this.#front(seq);
    else if (seq !== before.seq + 1) this.#tell(seq, missing(before.seq + 1, seq - 1));
    const follows = seq === 1 ? START : (before?.seq === seq - 1 ? before : this.#seals.get(seq - 1))?.hash;
    if (follows !== undefined && lineHash(follows, line) !== line.hash)
      this.#tell(seq, "It does not follow from the line before it: one of the two was changed or moved.");
    if (before && line.at < before.at) this.#tell(seq, "It is older than the line before it.");
    const seal = this.#seals.get(seq);
    if (seal && seal.hash !== line.hash) this.#tell(seq, "It is not the line that was sealed.");
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
    if (this.#last || newest.at > this.#old) this.#tell(newest.seq, missing(kept + 1, newest.seq));
  }

  /** Whether all that is missing before the first line that is kept can be old enough. */
  #front(first: number): void {
    if (first === 1) return;
    const began = /^([0-9a-f]{12})-/.exec(this.#chain)?.[1];
    const known = [...this.#seals.values()].filter(({ seq }) => seq < first - 1).map(({ at }) => at);
    const since = Math.max(began === undefined ? 0 : Number.parseInt(began, 16), ...known);
    if (since > this.#old) this.#tell(first, missing(1, first - 1));
  }
}

function missing(from: number, to: number): string {
  return from === to ? `Line ${from} is missing.` : `Lines ${from} to ${to} are missing.`;
}
