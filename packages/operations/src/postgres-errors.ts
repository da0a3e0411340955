// What a failure of PostgreSQL means: whether the transaction may be run again, and what is said to the caller. Its own
// messages are not passed on: they may hold what was to be written.

import { FormationError } from "@formation-mcp/contract";

interface DatabaseError {
  code?: string;
  message?: string;
  severity?: string;
}

function codeOf(error: unknown): string {
  return (error as DatabaseError | null)?.code ?? "";
}

/** Whether two transactions met: a serialization failure, a deadlock, or a row that another added first. */
export function isConflict(error: unknown): boolean {
  return ["40001", "40P01", "23505"].includes(codeOf(error));
}

/** Whether a connection prepared its statements before a newer program changed the tables; another one knows them. */
export function isOutdated(error: unknown): boolean {
  return codeOf(error) === "0A000";
}

/** Whether a statement was refused by the server and its connection is as good as before. */
export function isRefusal(error: unknown): boolean {
  return /^(22|23|40)...$/.test(codeOf(error));
}

/** Whether the connection is gone or was not made, so that nobody told how the last statement ended. */
export function isDisconnect(error: unknown): boolean {
  if (error instanceof FormationError) return false;
  const code = codeOf(error);
  // A SQLSTATE has five characters; those of EPIPE are none, as no class of them begins with an E.
  return !/^(?!E)[0-9A-Z]{5}$/.test(code) || /^(08...|57P0[1-5]|25P03)$/.test(code);
}

const RETRY = "Try again. If it stays so, look at the database server and its log.";

/** By SQLSTATE, the longest first (https://www.postgresql.org/docs/15/errcodes-appendix.html). */
const KNOWN: readonly [
  state: string,
  code: "unavailable" | "conflict" | "invalid" | "forbidden",
  message: string,
  remedy: string,
][] = [
  ["23505", "conflict", "There is a record of this id or name already.", "Read again what there is."],
  [
    "22021",
    "invalid",
    "A text holds a character that the database cannot keep.",
    "Leave out the NUL character.",
  ],
  ["54000", "invalid", "A name is too long for the database's index.", "Use a shorter one."],
  ["57014", "unavailable", "The database took too long to answer.", RETRY],
  ["57P03", "unavailable", "The database is starting or stopping.", "Try again in a moment."],
  [
    "53300",
    "unavailable",
    "The database has no connection left.",
    "Raise its max_connections, or lower the pools' size.",
  ],
  ["53100", "unavailable", "The database's disk is full.", "Free some space, then try again."],
  ["25006", "unavailable", "The database takes no writes.", "Connect to the primary server."],
  [
    "42501",
    "forbidden",
    "This process's database role may not do that.",
    "A worker's role sees records only; grant it with grantWorker.",
  ],
  [
    "42P01",
    "forbidden",
    "This process's database role may not see that, or it is not there.",
    "Migrate the database; a worker's role sees records only.",
  ],
  ["3D000", "unavailable", "There is no such database.", "Create it, or correct the database URL."],
  [
    "28",
    "unavailable",
    "The database refused this role or its password.",
    "Correct the database URL or the password file.",
  ],
  ["40", "unavailable", "The database is too busy: too many transactions met.", RETRY],
  ["53", "unavailable", "The database is out of resources.", RETRY],
];

/** Anything thrown by the driver as an error of ours. */
export function asFormationError(error: unknown): FormationError {
  if (error instanceof FormationError) return error;
  const state = codeOf(error);
  for (const [start, code, message, remedy] of KNOWN) {
    if (state.startsWith(start)) return new FormationError(code, message, { cause: error, remedy });
  }
  if (isDisconnect(error)) {
    return new FormationError("unavailable", "The database cannot be reached.", {
      cause: error,
      remedy: RETRY,
    });
  }
  return new FormationError("internal", `The database failed (SQLSTATE ${state}).`, {
    cause: error,
    remedy: "Look at the database server's log.",
  });
}

/** For a commit that nobody knows the end of. */
export function inDoubt(cause: unknown): FormationError {
  return new FormationError(
    "unavailable",
    "The connection to the database broke while a change was being written: it may have been made or not.",
    { cause, remedy: "Look whether it was made, or repeat the call with the same idempotency key." },
  );
}
