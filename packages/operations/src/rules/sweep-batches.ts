// The steps of a sweep. A step handles one batch of rows in a short transaction and returns whether there may
// be more. A sweep of any size holds its locks only for moments, and several sweeps at the same time share
// the work.

import type { Store, SweepResult } from "../port.ts";
import type { Transaction, TransactionScript } from "../sql/script.ts";

export type SweepOptions = Parameters<Store["sweep"]>[0];

/**
 * Adds what it did to `part` and returns whether it should run again. `before` is what the sweep did until
 * then.
 */
export type SweepStep = (
  tx: Transaction,
  options: SweepOptions,
  part: SweepResult,
  before: SweepResult,
) => TransactionScript<boolean>;

/** Rows that one transaction writes where each row takes several statements. */
export const BATCH_ROWS = 100;
/** Rows that one transaction writes with a single statement. */
export const BULK_ROWS = 1000;

/** The result of a sweep that has done nothing yet. */
export function emptySweep(): SweepResult {
  return { resend: [], changed: [], removedOperations: 0, removedBuilds: [] };
}
