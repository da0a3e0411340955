// The settings of what several machines share: the database, NATS, and the secret that all servers of one address have.
// Without them everything is in the state directory. Which driver is used follows from them alone.

import { readFileSync, statSync } from "node:fs";
import { z } from "zod";
import { amount, type Configuration, problemsOf, withoutEmpty, wrongSettings } from "./configuration.ts";

/** What the driver takes; another word would be taken for none of them, and mean what nobody said. */
const SSL_MODES = ["disable", "prefer", "require", "verify-ca", "verify-full", "no-verify"];
const NATS_ADDRESS = /^(?:(?:nats|tls):\/\/)?(?:[A-Za-z0-9.-]+|\[[0-9A-Fa-f:]+\])(?::\d{1,5})?$/;

const schema = z.object({
  FORMATION_DATABASE_URL: z
    .string()
    .refine(isDatabaseUrl, "write postgres://user@host:5432/database")
    .refine(hasKnownMode, `write sslmode as one of ${SSL_MODES.join(", ")}`)
    .optional(),
  FORMATION_DATABASE_PASSWORD_FILE: z.string().optional(),
  FORMATION_DATABASE_POOL: amount(1, 1000, 10).int("write a whole number, as 10").default(10),
  FORMATION_NATS_URL: z
    .string()
    .default("")
    .transform((text) => text.split(/[\s,]+/).filter((part) => part !== ""))
    .pipe(z.array(z.string().regex(NATS_ADDRESS, "write nats://host:4222 or tls://host:4222"))),
  FORMATION_NATS_CREDS: z.string().optional(),
  FORMATION_NATS_NKEY: z.string().optional(),
  FORMATION_NATS_CA: z.string().optional(),
  FORMATION_NATS_CERT: z.string().optional(),
  FORMATION_NATS_KEY: z.string().optional(),
  FORMATION_NATS_REPLICAS: z.coerce
    .number("write 1, 3 or 5")
    .pipe(z.union([z.literal(1), z.literal(3), z.literal(5)], "write 1, 3 or 5"))
    .default(1),
  FORMATION_MASTER_KEY_FILE: z.string().optional(),
});

export interface SharedConfiguration {
  /** Null: SQLite in the state directory. */
  database: { url: string; passwordFile: string | null; poolSize: number } | null;
  /** Null: a queue and a directory in the state directory. Paths of files, never their content. */
  nats: {
    servers: string[];
    credentials: { kind: "creds" | "nkey"; path: string } | null;
    tls: { ca?: string; cert?: string; key?: string } | null;
    replicas: number;
  } | null;
  /** Null: made in the state directory. */
  masterKeyFile: string | null;
}

/** What is wrong with these settings, one line each, and what they are if nothing is. */
export function readSharedConfiguration(environment: Record<string, string | undefined>): {
  problems: string[];
  shared: SharedConfiguration | null;
} {
  const parsed = schema.safeParse(withoutEmpty(environment));
  if (!parsed.success) {
    return { problems: problemsOf(parsed.error), shared: null };
  }
  const env = parsed.data;
  const { FORMATION_NATS_CREDS: creds, FORMATION_NATS_NKEY: nkey } = env;
  const { FORMATION_NATS_CA: ca, FORMATION_NATS_CERT: cert, FORMATION_NATS_KEY: key } = env;
  const problems = contradictions(env);
  return {
    problems,
    shared: {
      database:
        env.FORMATION_DATABASE_URL === undefined
          ? null
          : {
              url: env.FORMATION_DATABASE_URL,
              passwordFile: env.FORMATION_DATABASE_PASSWORD_FILE ?? null,
              poolSize: env.FORMATION_DATABASE_POOL,
            },
      nats:
        env.FORMATION_NATS_URL.length === 0
          ? null
          : {
              servers: env.FORMATION_NATS_URL,
              credentials: creds
                ? { kind: "creds", path: creds }
                : nkey
                  ? { kind: "nkey", path: nkey }
                  : null,
              tls:
                ca || cert || key
                  ? { ...(ca ? { ca } : {}), ...(cert ? { cert } : {}), ...(key ? { key } : {}) }
                  : null,
              replicas: env.FORMATION_NATS_REPLICAS,
            },
      masterKeyFile: env.FORMATION_MASTER_KEY_FILE ?? null,
    },
  };
}

/** @throws FormationError `invalid`, naming everything that is wrong at once. */
export function requireShared(environment: Record<string, string | undefined>): SharedConfiguration {
  const { shared, problems } = readSharedConfiguration(environment);
  if (!shared || problems.length > 0) throw wrongSettings(problems);
  return shared;
}

/** Whether a program starts this machine's worker: where others share the work, only if somebody said so. */
export function startsWorker(
  { worker }: Pick<Configuration, "worker">,
  { database, nats }: SharedConfiguration,
): boolean {
  return (worker ?? (database || nats ? "none" : "auto")) === "auto";
}

/** The URL with its password, which is read anew each time: whoever opens the database after a rotation has the new one. */
export function databaseUrl({ url, passwordFile }: NonNullable<SharedConfiguration["database"]>): string {
  if (passwordFile === null) return url;
  const whole = new URL(url);
  whole.password = encodeURIComponent(readFileSync(passwordFile, "utf8").replace(/\r?\n$/, ""));
  return whole.href;
}

function isDatabaseUrl(text: string): boolean {
  const url = URL.parse(text);
  return url !== null && ["postgres:", "postgresql:"].includes(url.protocol) && url.pathname.length > 1;
}

function hasKnownMode(text: string): boolean {
  const mode = URL.parse(text)?.searchParams.get("sslmode");
  return mode == null || SSL_MODES.includes(mode);
}

/** What each setting alone allows, and all together do not; and files that are not what they should be. */
function contradictions(env: z.output<typeof schema>): string[] {
  const problems: string[] = [];
  const nats = env.FORMATION_NATS_URL.length > 0;
  if (env.FORMATION_DATABASE_PASSWORD_FILE !== undefined) {
    if (env.FORMATION_DATABASE_URL === undefined)
      problems.push("FORMATION_DATABASE_PASSWORD_FILE: set FORMATION_DATABASE_URL too");
    else if (URL.parse(env.FORMATION_DATABASE_URL)?.password)
      problems.push("FORMATION_DATABASE_PASSWORD_FILE: the URL has a password already");
  }
  const named = env.FORMATION_DATABASE_URL === undefined ? null : URL.parse(env.FORMATION_DATABASE_URL);
  for (const name of ["sslrootcert", "sslcert", "sslkey"]) {
    const path = named?.searchParams.get(name);
    const problem = path ? fileProblem(path, name === "sslkey") : null;
    if (problem) problems.push(`FORMATION_DATABASE_URL: ${name}=${path}: ${problem}`);
  }
  for (const name of ["CREDS", "NKEY", "CA", "CERT", "KEY"] as const) {
    if (env[`FORMATION_NATS_${name}`] !== undefined && !nats)
      problems.push(`FORMATION_NATS_${name}: set FORMATION_NATS_URL too`);
  }
  if (env.FORMATION_NATS_CREDS !== undefined && env.FORMATION_NATS_NKEY !== undefined)
    problems.push("FORMATION_NATS_CREDS: FORMATION_NATS_CREDS and FORMATION_NATS_NKEY exclude each other");
  if ((env.FORMATION_NATS_CERT === undefined) !== (env.FORMATION_NATS_KEY === undefined))
    problems.push("FORMATION_NATS_CERT: FORMATION_NATS_CERT and FORMATION_NATS_KEY go together");
  for (const name of ["FORMATION_NATS_CA", "FORMATION_NATS_CERT"] as const) {
    const problem = env[name] === undefined ? null : fileProblem(env[name], false);
    if (problem) problems.push(`${name}: ${problem}`);
  }
  for (const name of [
    "FORMATION_DATABASE_PASSWORD_FILE",
    "FORMATION_NATS_CREDS",
    "FORMATION_NATS_NKEY",
    "FORMATION_NATS_KEY",
    "FORMATION_MASTER_KEY_FILE",
  ] as const) {
    const problem = env[name] === undefined ? null : fileProblem(env[name], true);
    if (problem) problems.push(`${name}: ${problem}`);
  }
  return problems;
}

/** A secret may be its group's to read, as systemd's credentials are, and nobody else's. */
function fileProblem(path: string, secret: boolean): string | null {
  try {
    readFileSync(path);
    if (secret && (statSync(path).mode & 0o027) !== 0) return "others may read or change it: chmod 600 it";
    return null;
  } catch (error) {
    return `it can't be read (${(error as NodeJS.ErrnoException).code ?? "unknown"})`;
  }
}
