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

/** Why there is no connection, by what the system, TLS or the driver said. What they said is the error's cause. */
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

/** A host of several addresses has an error for each; the driver's own have no code. */
function signsOf(error: unknown): string {
  if (error instanceof AggregateError) return error.errors.map(signsOf).join(" ");
  return `${codeOf(error)} ${(error as DatabaseError | null)?.message ?? ""}`;
}

/** Anything thrown by the driver as an error of ours. */
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

/** For a commit that nobody knows the end of. */
export function inDoubt(cause: unknown): FormationError {
  return new FormationError(
    "unavailable",
    "The connection to the database broke while a change was being written: it may have been made or not.",
    { cause, remedy: "Look whether it was made, or repeat the call with the same idempotency key." },
  );
}
