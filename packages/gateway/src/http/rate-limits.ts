// How often a caller may ask, counted over all server processes. A process takes permits from the shared count in blocks
// and remembers who has none left, so that neither a busy caller nor a flood costs a write for every request.

import { type Clock, type Counters, FormationError, LIMITS } from "@formation-mcp/contract";

/** Requests a minute; 0 is no limit. */
export interface Rates {
  /** Of one address, IPv6 by its /64, whatever it asks. */
  address: number;
  /** Of one account. */
  owner: number;
  /** Of one address at what makes tokens: sign-in, registration, token endpoints. */
  signIn: number;
  /** Refused tokens of one address. */
  failure: number;
}

export const DEFAULT_RATES: Rates = LIMITS.requestsPerMinute;

export interface Limits {
  /**
   * Takes one permit.
   * @throws FormationError `limit` when none is left (with {@link retryAfter}), `unavailable` if it can't be counted.
   */
  take(kind: keyof Rates, who: string): Promise<void>;
}

const WINDOW_MS = 60_000;
/** Who is remembered at once; the one longest unseen is forgotten, and what was left of its block is lost. */
const REMEMBERED = 20_000;

interface Block {
  left: number;
  /** Nothing is left of the shared count either. */
  spent: boolean;
  until: number;
  taking: Promise<void> | null;
}

/** Why a permit was refused, and for how long. */
class LimitError extends FormationError {
  readonly retryAfterSeconds: number;
  /** Whether this process told nobody before: the first refusal of its window. */
  readonly first: boolean;

  constructor(retryAfterSeconds: number, first: boolean) {
    super("limit", "Too many requests.", { remedy: `Try again in ${retryAfterSeconds} s.` });
    this.retryAfterSeconds = retryAfterSeconds;
    this.first = first;
  }
}

/** When it is worth to try again, in seconds, or null if the error is no refused permit. */
export function retryAfter(error: unknown): { seconds: number; first: boolean } | null {
  return error instanceof LimitError ? { seconds: error.retryAfterSeconds, first: error.first } : null;
}

export function createLimits(counters: Counters, rates: Rates, clock: Clock): Limits {
  const blocks = new Map<string, Block>();
  const told = new WeakSet<Block>();

  function blockOf(key: string): Block {
    const known = blocks.get(key);
    if (known) blocks.delete(key);
    const block = known ?? { left: 0, spent: false, until: 0, taking: null };
    blocks.set(key, block);
    for (const oldest of blocks.keys()) {
      if (blocks.size <= REMEMBERED) break;
      blocks.delete(oldest);
    }
    return block;
  }

  async function refill(key: string, block: Block, limit: number): Promise<void> {
    const amount = Math.min(500, Math.ceil(limit / 20));
    const { granted, resets_at } = await counters.spend({ key, limit, windowMs: WINDOW_MS, amount });
    block.left = granted;
    block.spent = granted < amount;
    if (block.until !== resets_at) told.delete(block);
    block.until = resets_at;
  }

  return {
    async take(kind, who) {
      const limit = rates[kind];
      if (limit <= 0) return;
      const key = `rate:${kind}:${who}`;
      const block = blockOf(key);
      for (let fresh = false; ; fresh = true) {
        const now = clock.now();
        if (fresh || now < block.until) {
          if (block.left > 0) {
            block.left -= 1;
            return;
          }
          if (block.spent) {
            const first = !told.has(block);
            told.add(block);
            throw new LimitError(Math.max(1, Math.ceil((block.until - now) / 1000)), first);
          }
        }
        block.taking ??= refill(key, block, limit).finally(() => {
          block.taking = null;
        });
        await block.taking;
      }
    },
  };
}
