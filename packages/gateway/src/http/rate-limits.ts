// Rate limits per minute, counted over all server processes. A process takes permits from the shared counter
// in blocks, and remembers which callers have none left, so that neither a busy caller nor a flood costs a
// write per request.

import { type Clock, type Counters, FormationError, LIMITS } from "@formation-mcp/contract";

/** Requests per minute; 0 is no limit. */
export interface Rates {
  /** All requests of one address; of IPv6, of one /64. */
  address: number;
  /** Requests of one account. */
  owner: number;
  /** Requests of one address that make tokens: sign-in, registration, token endpoints. */
  signIn: number;
  /** Refused tokens and guessed login codes of one address. */
  failure: number;
}

export const DEFAULT_RATES: Rates = LIMITS.requestsPerMinute;

export interface RateLimits {
  /**
   * Takes one permit.
   * @param who an account, or an address by `addressKey`.
   * @throws FormationError `limit` when none is left (see {@link retryAfter}), `unavailable` if the counter
   * fails.
   */
  take(kind: keyof Rates, who: string): Promise<void>;
}

const WINDOW_MS = 60_000;
/** The least recently seen caller is forgotten first; what is left of its block is lost. */
const MAX_REMEMBERED = 20_000;

/** The permits that this process took for one caller. */
interface Block {
  left: number;
  /** Whether the shared counter has none left either. */
  spent: boolean;
  /** The end of the window, in milliseconds since the epoch. */
  until: number;
  /** The refill under way, if there is one. */
  refilling: Promise<void> | null;
}

/** A refused permit. */
class RateLimitError extends FormationError {
  readonly retryAfterSeconds: number;
  /** Whether it is the first refusal of its window in this process. */
  readonly first: boolean;

  constructor(retryAfterSeconds: number, first: boolean) {
    super("limit", "Too many requests.", { remedy: `Try again in ${retryAfterSeconds} s.` });
    this.retryAfterSeconds = retryAfterSeconds;
    this.first = first;
  }
}

/** After how many seconds to try again, or null if the error is not a refused permit. */
export function retryAfter(error: unknown): { seconds: number; first: boolean } | null {
  return error instanceof RateLimitError ? { seconds: error.retryAfterSeconds, first: error.first } : null;
}

/**
 * Rate limits on shared counters: windows of one minute, in blocks of a twentieth of the limit, at most 500
 * permits.
 */
export function createRateLimits(counters: Counters, rates: Rates, clock: Clock): RateLimits {
  const blocks = new Map<string, Block>();
  const reported = new WeakSet<Block>();

  function blockOf(key: string): Block {
    const known = blocks.get(key);
    if (known) blocks.delete(key);
    const block = known ?? { left: 0, spent: false, until: 0, refilling: null };
    blocks.set(key, block);
    for (const oldest of blocks.keys()) {
      if (blocks.size <= MAX_REMEMBERED) break;
      blocks.delete(oldest);
    }
    return block;
  }

  async function refill(key: string, block: Block, limit: number): Promise<void> {
    const amount = Math.min(500, Math.ceil(limit / 20));
    const { granted, resets_at } = await counters.spend({ key, limit, windowMs: WINDOW_MS, amount });
    block.left = granted;
    block.spent = granted < amount;
    if (block.until !== resets_at) reported.delete(block);
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
            const first = !reported.has(block);
            reported.add(block);
            throw new RateLimitError(Math.max(1, Math.ceil((block.until - now) / 1000)), first);
          }
        }
        block.refilling ??= refill(key, block, limit).finally(() => {
          block.refilling = null;
        });
        await block.refilling;
      }
    },
  };
}
