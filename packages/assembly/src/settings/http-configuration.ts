// The settings of the HTTP server: the environment over a file, checked as a whole, with every problem told at once.

import { readFileSync } from "node:fs";
import { isIP } from "node:net";
import { createSecureContext } from "node:tls";
import type { Quota } from "@formation-mcp/contract";
import { DEFAULT_RATES, type Rates } from "@formation-mcp/gateway";
import { LISTING } from "@formation-mcp/tools/listing";
import { z } from "zod";
import {
  amount,
  type Configuration,
  networks,
  problemsOf,
  readConfiguration,
  settingsProblems,
  withoutEmpty,
  wrongSettings,
} from "./configuration.ts";
import { readSettingsFile } from "./file.ts";
import { readSharedConfiguration, type SharedConfiguration, startsWorker } from "./shared-configuration.ts";
import { HTTP_VARIABLES, SHARED_VARIABLES, VARIABLES } from "./variables.ts";

const yes = z
  .enum(["yes", "true", "1", "on", "no", "false", "0", "off"])
  .default("no")
  .transform((text) => ["yes", "true", "1", "on"].includes(text));
const words = z
  .string()
  .default("")
  .transform((text) => text.split(/[\s,]+/).filter((part) => part !== ""));
const quota = (fallback: number) => {
  const wrong = `write a whole number, as ${fallback}, or none`;
  const limit = z.coerce.number(wrong).int(wrong).min(0, wrong).max(1e9, wrong);
  return z.union([z.literal("none").transform(() => null), limit], wrong).default(fallback);
};
const whole = (min: number, max: number, fallback: number) =>
  amount(min, max, fallback).int(`write a whole number, as ${fallback}`).default(fallback);
const rate = (fallback: number) => whole(0, 1e9, fallback);
const host = z
  .string()
  .default("127.0.0.1")
  .refine((text) => isIP(text) !== 0 || text === "localhost", "write an IP address");
const tools = words.pipe(z.array(z.enum(LISTING.map(({ name }) => name))));
const origin = (text: string) => {
  const url = URL.parse(text);
  return url !== null && ["http:", "https:"].includes(url.protocol) && url.origin === text ? url : null;
};
const ORIGIN = "write an origin as https://vm.example.org: lower case, no path, no slash at its end";

const schema = z.object({
  FORMATION_HTTP_HOST: host,
  FORMATION_HTTP_PORT: whole(0, 65_535, 3010),
  FORMATION_PUBLIC_URL: z
    .string()
    .refine((text) => origin(text) !== null, ORIGIN)
    .optional(),
  FORMATION_TLS_CERT: z.string().optional(),
  FORMATION_TLS_KEY: z.string().optional(),
  FORMATION_TRUSTED_PROXIES: words.pipe(networks),
  FORMATION_METRICS_FROM: words.pipe(networks),
  FORMATION_PLAIN_HTTP: yes,
  FORMATION_ALLOWED_HOSTS: words.pipe(
    z.array(
      z
        .string()
        .regex(/^(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9][A-Za-z0-9.-]{0,252})$/, "write a host name without a port"),
    ),
  ),
  FORMATION_CORS_ORIGINS: words.pipe(z.array(z.string().refine((text) => origin(text) !== null, ORIGIN))),
  FORMATION_OPEN_REGISTRATION: yes,
  FORMATION_CLIENT_HOSTS: words.pipe(
    z.array(z.string().regex(/^[A-Za-z0-9.:[\]-]+:\d{1,5}$/, "write host:port")),
  ),
  FORMATION_CLIENT_CA: z.string().optional(),
  FORMATION_READ_ONLY: yes,
  FORMATION_ALLOW_TOOLS: tools,
  FORMATION_DENY_TOOLS: tools,
  FORMATION_QUOTA_VCPUS: quota(8),
  FORMATION_QUOTA_MEMORY_MB: quota(16_384),
  FORMATION_QUOTA_DISK_GB: quota(100),
  FORMATION_QUOTA_INSTANCES: quota(10),
  FORMATION_QUOTA_BUILDS: quota(3),
  FORMATION_QUOTA_OPERATIONS_PER_MINUTE: quota(60),
  FORMATION_RATE_ADDRESS: rate(DEFAULT_RATES.address),
  FORMATION_RATE_OWNER: rate(DEFAULT_RATES.owner),
  FORMATION_RATE_SIGN_IN: rate(DEFAULT_RATES.signIn),
  FORMATION_RATE_FAILURE: rate(DEFAULT_RATES.failure),
  FORMATION_HTTP_CONNECTIONS: whole(1, 1_000_000, 1024),
  FORMATION_HTTP_PATIENCE_SECONDS: amount(0.1, 3600, 15).default(15),
});

export interface HttpConfiguration extends Configuration {
  shared: SharedConfiguration;
  host: string;
  /** 0 is any. */
  port: number;
  /** Null: where it listens. */
  publicUrl: string | null;
  /** Paths of PEM files. */
  tls: { cert: string; key: string } | null;
  trustedProxies: string[];
  metricsFrom: string[];
  allowedHosts: string[];
  corsOrigins: string[];
  openRegistration: boolean;
  /** Where OAuth clients' metadata may be read beside the public internet. */
  outside: { privateHosts: string[]; ca?: string };
  readOnly: boolean;
  allowTools: string[] | null;
  denyTools: string[];
  quota: Quota;
  rates: Rates;
  connections: number;
  /** How long a client may take for a request's head. */
  patienceMs: number;
  startsWorker: boolean;
  /** The environment that the settings came from, those of the file included: what a worker is started with. */
  environment: Record<string, string>;
}

/**
 * Reads the settings of the HTTP server.
 * @param overrides what the command line says: a file whose settings the environment overrides, and the state directory.
 * @throws FormationError `invalid`, naming everything that is wrong at once.
 */
export function readHttpConfiguration(
  overrides: { file?: string | undefined; stateDir?: string | undefined } = {},
  environment: Record<string, string | undefined> = process.env,
): HttpConfiguration {
  const known = [VARIABLES, SHARED_VARIABLES, HTTP_VARIABLES].flatMap((each) => Object.keys(each));
  const file =
    overrides.file === undefined ? { given: {}, problems: [] } : readSettingsFile(overrides.file, known);
  const given = withoutEmpty({ ...file.given, ...withoutEmpty(environment) });
  const parsed = schema.safeParse(given);
  const { shared, problems: sharedProblems } = readSharedConfiguration(given);
  const problems = [
    ...file.problems,
    ...settingsProblems(given),
    ...sharedProblems,
    ...(shared?.database && !shared.masterKeyFile
      ? [
          "FORMATION_MASTER_KEY_FILE: set it, as what it seals is in the database: a file of 32 random bytes that every server has",
        ]
      : []),
    ...(parsed.success ? contradictions(parsed.data) : problemsOf(parsed.error)),
  ];
  if (problems.length > 0 || !parsed.success || !shared) throw wrongSettings(problems);
  const env = parsed.data;
  const configuration = readConfiguration({ stateDir: overrides.stateDir }, given);
  return {
    ...configuration,
    shared,
    host: env.FORMATION_HTTP_HOST,
    port: env.FORMATION_HTTP_PORT,
    publicUrl: env.FORMATION_PUBLIC_URL ?? null,
    tls:
      env.FORMATION_TLS_CERT && env.FORMATION_TLS_KEY
        ? { cert: env.FORMATION_TLS_CERT, key: env.FORMATION_TLS_KEY }
        : null,
    trustedProxies: env.FORMATION_TRUSTED_PROXIES,
    metricsFrom: env.FORMATION_METRICS_FROM,
    allowedHosts: env.FORMATION_ALLOWED_HOSTS,
    corsOrigins: env.FORMATION_CORS_ORIGINS,
    openRegistration: env.FORMATION_OPEN_REGISTRATION,
    outside: {
      privateHosts: env.FORMATION_CLIENT_HOSTS,
      ...(env.FORMATION_CLIENT_CA ? { ca: readFileSync(env.FORMATION_CLIENT_CA, "utf8") } : {}),
    },
    readOnly: env.FORMATION_READ_ONLY,
    allowTools: env.FORMATION_ALLOW_TOOLS.length > 0 ? env.FORMATION_ALLOW_TOOLS : null,
    denyTools: env.FORMATION_DENY_TOOLS,
    quota: {
      vcpus: env.FORMATION_QUOTA_VCPUS,
      memory_mb: env.FORMATION_QUOTA_MEMORY_MB,
      disk_gb: env.FORMATION_QUOTA_DISK_GB,
      instances: env.FORMATION_QUOTA_INSTANCES,
      builds: env.FORMATION_QUOTA_BUILDS,
      operations_per_minute: env.FORMATION_QUOTA_OPERATIONS_PER_MINUTE,
    },
    rates: {
      address: env.FORMATION_RATE_ADDRESS,
      owner: env.FORMATION_RATE_OWNER,
      signIn: env.FORMATION_RATE_SIGN_IN,
      failure: env.FORMATION_RATE_FAILURE,
    },
    connections: env.FORMATION_HTTP_CONNECTIONS,
    patienceMs: env.FORMATION_HTTP_PATIENCE_SECONDS * 1000,
    startsWorker: startsWorker(configuration, shared),
    environment: given,
  };
}

/** What each setting alone allows, and all together do not. */
function contradictions(env: z.output<typeof schema>): string[] {
  const problems: string[] = [];
  const { FORMATION_TLS_CERT: cert, FORMATION_TLS_KEY: key, FORMATION_PUBLIC_URL: publicUrl } = env;
  const beyond = !isLoopbackHost(env.FORMATION_HTTP_HOST);
  const proxied = env.FORMATION_TRUSTED_PROXIES.length > 0;
  if ((cert === undefined) !== (key === undefined)) {
    problems.push("FORMATION_TLS_CERT: FORMATION_TLS_CERT and FORMATION_TLS_KEY go together");
  } else if (cert !== undefined && key !== undefined) {
    try {
      createSecureContext({ cert: readFileSync(cert), key: readFileSync(key) });
    } catch (error) {
      problems.push(`FORMATION_TLS_CERT: the certificate can't be used: ${(error as Error).message}`);
    }
  }
  try {
    if (env.FORMATION_CLIENT_CA !== undefined) readFileSync(env.FORMATION_CLIENT_CA);
  } catch (error) {
    problems.push(`FORMATION_CLIENT_CA: ${(error as Error).message}`);
  }
  if (beyond && publicUrl === undefined) {
    problems.push(
      "FORMATION_PUBLIC_URL: say what clients call this server, as it listens beyond this machine",
    );
  }
  if (beyond && cert === undefined && !proxied && !env.FORMATION_PLAIN_HTTP) {
    problems.push(
      "FORMATION_HTTP_HOST: plain HTTP beyond this machine shows tokens to the network: set FORMATION_TLS_CERT and FORMATION_TLS_KEY, FORMATION_TRUSTED_PROXIES if a proxy speaks TLS, or FORMATION_PLAIN_HTTP=yes",
    );
  }
  if (cert !== undefined && publicUrl?.startsWith("http:")) {
    problems.push("FORMATION_PUBLIC_URL: write https, as the server speaks TLS");
  }
  const plainPublic =
    publicUrl?.startsWith("http:") && !isLoopbackHost(new URL(publicUrl).hostname.replace(/^\[|\]$/g, ""));
  if (plainPublic && !env.FORMATION_PLAIN_HTTP) {
    problems.push("FORMATION_PUBLIC_URL: write https, or set FORMATION_PLAIN_HTTP=yes");
  }
  return problems;
}

function isLoopbackHost(host: string): boolean {
  return host === "localhost" || host === "::1" || (isIP(host) === 4 && host.startsWith("127."));
}
