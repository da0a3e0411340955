// A limit on how many of one thing (uploads, event streams) an owner may have open in this process at once.

import { FormationError } from "@formation-mcp/contract";

/**
 * Takes a slot for an owner, and returns the function that releases it, to be called once.
 * @throws FormationError `limit` if the owner has no slot left.
 */
export type ConcurrencyLimit = (owner: string) => () => void;

/** @param full the error's message and remedy when an owner has no slot left. */
export function createConcurrencyLimit(
  maxPerOwner: number,
  full: { message: string; remedy: string },
): ConcurrencyLimit {
  const taken = new Map<string, number>();
  return (owner) => {
    const now = taken.get(owner) ?? 0;
    if (now >= maxPerOwner) throw new FormationError("limit", full.message, { remedy: full.remedy });
    taken.set(owner, now + 1);
    return () => {
      const left = (taken.get(owner) ?? 1) - 1;
      if (left > 0) taken.set(owner, left);
      else taken.delete(owner);
    };
  };
}
