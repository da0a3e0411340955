// What a failure of PostgreSQL means: whether the transaction may be run again, and which error the caller
// gets. The server's own messages are not passed on, because they may contain values that were to be written.

import { FormationError } from "@formation-mcp/contract";

interface DatabaseError {
  code?: string;
  message?: string;
  severity?: string;
}

function codeOf(error: unknown): string {
  return (error as DatabaseError | null)?.code ?? "";
}

/** A unique violation: a row with this key is there. */
export function isDuplicate(error: unknown): boolean {
  return codeOf(error) === "23505";
}

/**
 * Whether two transactions met: a serialization failure, a deadlock, or a row that another one inserted
 * first.
 */
export function isConflict(error: unknown): boolean {
  return isDuplicate(error) || ["40001", "40P01"].includes(codeOf(error));
}

/**
 * Whether a connection prepared its statements before a migration changed the tables; a new connection has
 * none.
 */
export function isOutdated(error: unknown): boolean {
  return codeOf(error) === "0A000";
}

/** Whether the server refused a statement and the connection is still good. */
export function isRefusal(error: unknown): boolean {
  return /^(22|23|40)...$/.test(codeOf(error));
}

/** Whether the connection broke or was not made, so that the end of the last statement is unknown. */
export function isDisconnect(error: unknown): boolean {
  if (error instanceof FormationError) return false;
  const code = codeOf(error);
  // A SQLSTATE has five characters. EPIPE has five too, but no class of SQLSTATEs begins with an E.
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
    "A worker's role sees records only; what it may have is granted by formation-mcp-http migrate --worker-role.",
  ],
  [
    "42P01",
    "forbidden",
    "This process's database role may not see that, or it is not there.",
    "Migrate the database; a worker's role sees records only.",
  ],
  ["3D000", "unavailable", "There is no such database.", "Create it, or correct the database URL."],
  [
    "42704",
    "invalid",
    "The database has no such role.",
    "Make it first (deploy/postgres/roles.sql), or name the workers' role: formation-mcp-http migrate --worker-role NAME.",
  ],
  [
    "28000",
    "unavailable",
    "The database lets nobody in like this: its pg_hba.conf has no line for this role, database and machine, or asks for TLS.",
    "Look at deploy/postgres/pg_hba.conf, which takes other machines over TLS alone: sslmode=verify-full in the database URL. Else the role is not there, or may not log in.",
  ],
  [
    "28",
    "unavailable",
    "The database refused this role or its password.",
    "Correct the database URL or the password file.",
  ],
  ["40", "unavailable", "The database is too busy: too many transactions met.", RETRY],
  ["53", "unavailable", "The database is out of resources.", RETRY],
];

/** Why there is no connection, by the error of the system, TLS or the driver, which becomes the cause. */
const UNREACHED: readonly [sign: RegExp, why: string, remedy: string][] = [
  [/ECONNREFUSED/, "nobody listens there", "Start it, or correct host and port in the database URL."],
  [/ENOTFOUND|EAI_AGAIN/, "its host has no address", "Correct the host in the database URL."],
  [
    /does not support SSL/,
    "it offers no TLS",
    "Give it a certificate (ssl = on, deploy/postgres/formation.conf); only on its own machine leave sslmode out of the database URL.",
  ],
  [
    /CERT|SELF_SIGNED|VERIFY_LEAF|UNABLE_TO_GET|certificate/i,
    "its certificate is not one that is trusted for this name",
    "sslrootcert in the database URL names its authority's certificate; the host there must be a name in its own.",
  ],
  [
    /client password must be/,
    "it asks for a password, and there is none",
    "Put the password into the password file.",
  ],
  [
    /ETIMEDOUT|EHOSTUNREACH|ENETUNREACH|timeout/i,
    "nothing answers there",
    "Look at the network and at the firewall between, and whether host and port in the database URL are right.",
  ],
];

/**
 * All codes and messages of an error. A host with several addresses has an error for each; the driver's have
 * no code.
 */
function signsOf(error: unknown): string {
  if (error instanceof AggregateError) return error.errors.map(signsOf).join(" ");
  return `${codeOf(error)} ${(error as DatabaseError | null)?.message ?? ""}`;
}

/** Anything that the driver threw, as a FormationError. */
export function asFormationError(error: unknown): FormationError {
  if (error instanceof FormationError) return error;
  const state = codeOf(error);
  for (const [start, code, message, remedy] of KNOWN) {
    if (state.startsWith(start)) return new FormationError(code, message, { cause: error, remedy });
  }
  if (isDisconnect(error)) {
    const signs = signsOf(error);
    const [, why, remedy] = UNREACHED.find(([sign]) => sign.test(signs)) ?? [];
    const message = `The database cannot be reached${why === undefined ? "" : `: ${why}`}.`;
    return new FormationError("unavailable", message, { cause: error, remedy: remedy ?? RETRY });
  }
  return new FormationError("internal", `The database failed (SQLSTATE ${state}).`, {
    cause: error,
    remedy: "Look at the database server's log.",
  });
}

/** For a commit of which it is unknown whether it was made. */
export function inDoubt(cause: unknown): FormationError {
  return new FormationError(
    "unavailable",
    "The connection to the database broke while a change was being written: it may have been made or not.",
    { cause, remedy: "Look whether it was made, or repeat the call with the same idempotency key." },
  );
}
