// How a full or failing disk of the node is told to the owner of a machine.

import { FormationError } from "@formation-mcp/contract";

/** Makes a FormationError of anything thrown while a machine's files are made; a full disk says so. */
export function diskError(error: unknown): FormationError {
  if (!isDiskFull(error)) return FormationError.from(error, "The machine's files cannot be made.");
  return new FormationError("unavailable", "The node's disk is full.", {
    remedy: "Delete instances or builds that are no longer needed, or give the node more disk.",
    step: "boot",
    cause: error,
  });
}

/**
 * The problem of a running machine after an I/O error: QEMU pauses the guest rather than let it see the
 * error.
 */
export function ioProblem(isFull: boolean): string {
  return isFull
    ? "the node's disk is full: the guest is held until it is resumed, once there is room"
    : "the machine's disk cannot be read or written: look at the node's disk";
}

function isDiskFull(error: unknown): boolean {
  for (let one = error; one instanceof Error; one = one.cause) {
    const { code } = one as NodeJS.ErrnoException;
    if (code === "ENOSPC" || code === "EDQUOT" || /No space left|Disk quota/i.test(one.message)) return true;
  }
  return false;
}
