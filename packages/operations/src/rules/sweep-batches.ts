// Steps of a sweep: each is one short transaction that does a batch and says whether there is more, so that a sweep of any
// size holds the lock only for moments, and several sweeps at once only share the work.

import type { Store, SweepResult } from "../port.ts";
import type { Query, Script } from "../sql/script.ts";

export type Options = Parameters<Store["sweep"]>[0];

/** Adds to `part` what it did, knowing what the sweep did before, and returns whether it should run again. */
export type Step = (q: Query, options: Options, part: SweepResult, before: SweepResult) => Script<boolean>;

/** Rows written by one transaction where each takes several statements, and where one statement does all. */
export const FEW = 100;
export const MANY = 1000;

export function nothing(): SweepResult {
  return { resend: [], changed: [], removedOperations: 0, removedBuilds: [] };
}
