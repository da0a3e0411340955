// The settings of what several machines share: the database and NATS. Without them everything is in the state
// directory. They alone decide which drivers are used.

import { readFileSync, statSync } from "node:fs";
import { z } from "zod";
import { list, optional, text, urlOf, whole, withDefault } from "./kinds.ts";
import type { MachineSettings } from "./machine.ts";
import type { Section, Values } from "./setting.ts";

/** What the PostgreSQL driver knows; it would take any other word for none of them. */
const SSL_MODES = ["disable", "prefer", "require", "verify-ca", "verify-full", "no-verify"];
const NATS_ADDRESS = /^(?:(?:nats|tls):\/\/)?(?:[A-Za-z0-9.-]+|\[[0-9A-Fa-f:]+\])(?::\d{1,5})?$/;

const settings = {
  database: {
    url: {
      name: "FORMATION_DATABASE_URL",
      help: "postgres://user@host:5432/database for the records",
      ...optional(
        () =>
          z
            .string()
            .refine(isDatabaseUrl, "write postgres://user@host:5432/database")
            .refine(hasKnownMode, `write sslmode as one of ${SSL_MODES.join(", ")}`),
        "SQLite in the state directory",
      ),
    },
    passwordFile: {
      name: "FORMATION_DATABASE_PASSWORD_FILE",
      help: "a file with the database user's password, if the URL has none",
      ...optional(text),
    },
    poolSize: {
      name: "FORMATION_DATABASE_POOL",
      help: "connections to the database at the same time",
      ...whole({ min: 1, max: 1000, default: 10 }),
    },
  },
  nats: {
    servers: {
      name: "FORMATION_NATS_URL",
      help: "nats://host:4222 or tls://…, more separated by ',', for wake-ups, events, contexts, images and logs",
      ...list(
        () => z.array(z.string().regex(NATS_ADDRESS, "write nats://host:4222 or tls://host:4222")),
        "the state directory",
      ),
    },
    creds: {
      name: "FORMATION_NATS_CREDS",
      help: "a creds file for NATS, as nsc writes it",
      ...optional(text),
    },
    nkey: {
      name: "FORMATION_NATS_NKEY",
      help: "a seed file for NATS, as nk writes it",
      ...optional(text),
    },
    ca: {
      name: "FORMATION_NATS_CA",
      help: "certificates in PEM of the authority that signed those of the NATS servers",
      ...optional(text),
    },
    cert: {
      name: "FORMATION_NATS_CERT",
      help: "the program's own certificate for NATS in PEM; with FORMATION_NATS_KEY",
      ...optional(text),
    },
    key: {
      name: "FORMATION_NATS_KEY",
      help: "that certificate's key in PEM",
      ...optional(text),
    },
    replicas: {
      name: "FORMATION_NATS_REPLICAS",
      help: "copies of everything that NATS stores: 1, 3 or 5",
      ...withDefault<1 | 3 | 5>(
        () =>
          z.coerce
            .number("write 1, 3 or 5")
            .pipe(z.union([z.literal(1), z.literal(3), z.literal(5)], "write 1, 3 or 5")),
        1,
      ),
    },
  },
};

export const SHARED = {
  title: "what several machines share",
  programs: ["formation-mcp", "formation-mcp-http", "formation-mcp-worker"],
  inFile: true,
  settings,
} as const satisfies Section;

type SharedValues = Values<typeof settings>;
export type Database = SharedValues["database"] & { url: string };
export type Nats = SharedValues["nats"];

/** What several machines share; null stands for the state directory. Paths of files, never their content. */
export interface SharedServices {
  database: Database | null;
  nats: Nats | null;
}

export function sharedServices({ database, nats }: SharedValues): SharedServices {
  const { url } = database;
  return {
    database: url === null ? null : { ...database, url },
    nats: nats.servers.length === 0 ? null : nats,
  };
}

interface WorkerChoice extends Pick<MachineSettings, "worker"> {
  shared: SharedServices;
}

/** Whether a program starts this machine's worker: with shared services only if FORMATION_WORKER says so. */
export function startsWorker({ worker, shared }: WorkerChoice): boolean {
  return (worker ?? (shared.database || shared.nats ? "none" : "auto")) === "auto";
}

/**
 * The URL with its password. The file is read at each call, so that a rotated password is used at the next
 * connection.
 */
export function databaseUrl({ url, passwordFile }: Pick<Database, "url" | "passwordFile">): string {
  if (passwordFile === null) return url;
  const whole = new URL(url);
  whole.password = encodeURIComponent(readFileSync(passwordFile, "utf8").replace(/\r?\n$/, ""));
  return whole.href;
}

/** What each setting allows alone and all together do not, and files that cannot be used; one line each. */
export function sharedProblems({ database, nats }: SharedValues): string[] {
  return [...databaseProblems(database), ...natsProblems(nats)];
}

function databaseProblems({ url: given, passwordFile }: SharedValues["database"]): string[] {
  const problems: string[] = [];
  const url = given === null ? null : new URL(given);
  if (passwordFile !== null) {
    if (url === null) problems.push("FORMATION_DATABASE_PASSWORD_FILE: set FORMATION_DATABASE_URL too");
    else if (url.password) problems.push("FORMATION_DATABASE_PASSWORD_FILE: the URL has a password already");
  }
  for (const parameter of ["sslrootcert", "sslcert", "sslkey"]) {
    const file = url?.searchParams.get(parameter);
    const problem = file ? fileProblem(file, parameter === "sslkey") : null;
    if (problem) problems.push(`FORMATION_DATABASE_URL: ${parameter}=${file}: ${problem}`);
  }
  return [...problems, ...secretProblems("FORMATION_DATABASE_PASSWORD_FILE", passwordFile)];
}

function natsProblems(nats: Nats): string[] {
  const problems: string[] = [];
  for (const part of ["creds", "nkey", "ca", "cert", "key"] as const) {
    if (nats[part] !== null && nats.servers.length === 0)
      problems.push(`${settings.nats[part].name}: set FORMATION_NATS_URL too`);
  }
  if (nats.creds !== null && nats.nkey !== null)
    problems.push("FORMATION_NATS_CREDS: FORMATION_NATS_CREDS and FORMATION_NATS_NKEY exclude each other");
  if ((nats.cert === null) !== (nats.key === null))
    problems.push("FORMATION_NATS_CERT: FORMATION_NATS_CERT and FORMATION_NATS_KEY go together");
  for (const part of ["ca", "cert"] as const) {
    const problem = nats[part] === null ? null : fileProblem(nats[part], false);
    if (problem) problems.push(`${settings.nats[part].name}: ${problem}`);
  }
  for (const part of ["creds", "nkey", "key"] as const)
    problems.push(...secretProblems(settings.nats[part].name, nats[part]));
  return problems;
}

/** What is wrong with a file that holds a secret, in a line that begins with the setting's name. */
export function secretProblems(name: string, file: string | null): string[] {
  const problem = file === null ? null : fileProblem(file, true);
  return problem === null ? [] : [`${name}: ${problem}`];
}

/** The group may read a secret, as with systemd's credentials; others may not. */
function fileProblem(file: string, secret: boolean): string | null {
  try {
    readFileSync(file);
    if (secret && (statSync(file).mode & 0o027) !== 0) return "others may read or change it: chmod 600 it";
    return null;
  } catch (error) {
    return `it can't be read (${(error as NodeJS.ErrnoException).code ?? "unknown"})`;
  }
}

function isDatabaseUrl(given: string): boolean {
  const url = urlOf(given);
  return url !== null && ["postgres:", "postgresql:"].includes(url.protocol) && url.pathname.length > 1;
}

function hasKnownMode(given: string): boolean {
  const mode = urlOf(given)?.searchParams.get("sslmode");
  return mode == null || SSL_MODES.includes(mode);
}
