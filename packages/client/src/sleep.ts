// A pause that a signal can end.

import { FormationError } from "@formation-mcp/contract";

/** Waits. @throws FormationError `cancelled` as soon as the signal is aborted */
export async function sleep(ms: number, signal?: AbortSignal): Promise<void> {
  await new Promise<void>((resolve) => {
    const end = () => {
      clearTimeout(timer);
      signal?.removeEventListener("abort", end);
      resolve();
    };
    const timer = setTimeout(end, signal?.aborted ? 0 : ms);
    signal?.addEventListener("abort", end, { once: true });
  });
  if (signal?.aborted) throw cancelled();
}

/** The error of a call whose own signal was aborted. */
export function cancelled(cause?: unknown): FormationError {
  return new FormationError("cancelled", "The call was cancelled.", cause === undefined ? {} : { cause });
}
