// Places that an owner takes and gives back: how many of one thing it may hold of this process at once.

import { FormationError } from "@formation-mcp/contract";

/**
 * Takes a place for an owner and returns what gives it back, to be called once.
 * @throws FormationError `limit` if the owner holds as many as it may.
 */
export type Places = (owner: string) => () => void;

/** @param full what an owner is told who holds all places. */
export function createPlaces(most: number, full: { message: string; remedy: string }): Places {
  const taken = new Map<string, number>();
  return (owner) => {
    const now = taken.get(owner) ?? 0;
    if (now >= most) throw new FormationError("limit", full.message, { remedy: full.remedy });
    taken.set(owner, now + 1);
    return () => {
      const left = (taken.get(owner) ?? 1) - 1;
      if (left > 0) taken.set(owner, left);
      else taken.delete(owner);
    };
  };
}
