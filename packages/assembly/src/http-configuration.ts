// The settings of the HTTP server: the environment over a file, checked as a whole, with every problem told at once.

import { readFileSync } from "node:fs";
import { isIP } from "node:net";
import { createSecureContext } from "node:tls";
import type { Quota } from "@formation-mcp/contract";
import { DEFAULT_RATES, type Rates } from "@formation-mcp/gateway/http";
import { LISTING } from "@formation-mcp/tools/listing";
import { z } from "zod";
import {
  type Configuration,
  problemsOf,
  readConfiguration,
  settingsProblems,
  VARIABLES,
  withoutEmpty,
  wrongSettings,
} from "./configuration.ts";
import { readSettingsFile } from "./settings-file.ts";
import {
  readSharedConfiguration,
  SHARED_VARIABLES,
  type SharedConfiguration,
  startsWorker,
} from "./shared-configuration.ts";

/** One line each: the variable, what it sets. Shown by `--help`. */
export const HTTP_VARIABLES = {
  FORMATION_HTTP_HOST: "the address to listen on (default: 127.0.0.1)",
  FORMATION_HTTP_PORT: "the port to listen on; 0 is any (default: 3010)",
  FORMATION_PUBLIC_URL:
    "the server's origin as clients know it, https://vm.example.org (default: where it listens)",
  FORMATION_TLS_CERT: "certificate chain in PEM; with FORMATION_TLS_KEY the server speaks TLS itself",
  FORMATION_TLS_KEY: "the certificate's key in PEM",
  FORMATION_TRUSTED_PROXIES:
    "networks of proxies whose X-Forwarded-* count, separated by ',' (default: none)",
  FORMATION_METRICS_FROM:
    "networks that may read /metrics directly without an admin's token, separated by ',' (default: none)",
  FORMATION_PLAIN_HTTP: "yes: serve plain HTTP beyond this machine without a proxy (default: no)",
  FORMATION_ALLOWED_HOSTS: "more names that clients may use for this server, separated by ','",
  FORMATION_CORS_ORIGINS: "origins of web pages that may use this server, separated by ',' (default: none)",
  FORMATION_OPEN_REGISTRATION: "yes: whoever has a key may open an account (default: no)",
  FORMATION_CLIENT_HOSTS:
    "host:port of machines with private addresses where OAuth clients' metadata may be read, separated by ','",
  FORMATION_CLIENT_CA: "certificates in PEM of the authority that signed theirs",
  FORMATION_READ_ONLY: "yes: only tools that change nothing, for everybody (default: no)",
  FORMATION_ALLOW_TOOLS: "only these tools, for everybody, separated by ','",
  FORMATION_DENY_TOOLS: "not these tools, for anybody, separated by ','",
  FORMATION_QUOTA_VCPUS: "vCPUs that one account may have (default: 8; none is no limit)",
  FORMATION_QUOTA_MEMORY_MB: "memory that one account's VMs may have (default: 16384)",
  FORMATION_QUOTA_DISK_GB: "disk that one account's VMs may have (default: 100)",
  FORMATION_QUOTA_INSTANCES: "VMs that one account may have (default: 10)",
  FORMATION_QUOTA_BUILDS: "builds of one account at the same time (default: 3)",
  FORMATION_QUOTA_OPERATIONS_PER_MINUTE: "operations that one account may begin a minute (default: 60)",
  FORMATION_RATE_ADDRESS: "requests of one address a minute; 0 is no limit (default: 3000)",
  FORMATION_RATE_OWNER: "requests of one account a minute (default: 1800)",
  FORMATION_RATE_SIGN_IN: "sign-ins, registrations and token requests of one address a minute (default: 60)",
  FORMATION_RATE_FAILURE: "refused tokens of one address a minute (default: 60)",
  FORMATION_HTTP_CONNECTIONS: "connections at the same time (default: 1024)",
  FORMATION_HTTP_PATIENCE_SECONDS:
    "how long a client may take to send a request's head, or the next 16 KiB of an upload; twice as long for another body, or between two requests (default: 15)",
} as const;

const yes = z
  .enum(["yes", "true", "1", "on", "no", "false", "0", "off"])
  .default("no")
  .transform((text) => ["yes", "true", "1", "on"].includes(text));
const words = z
  .string()
  .default("")
  .transform((text) => text.split(/[\s,]+/).filter((part) => part !== ""));
const quota = (fallback: number) =>
  z
    .union([z.literal("none").transform(() => null), z.coerce.number().int().min(0).max(1e9)])
    .default(fallback);
const rate = (fallback: number) => z.coerce.number().int().min(0).max(1e9).default(fallback);
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
  FORMATION_HTTP_PORT: z.coerce.number().int().min(0).max(65_535).default(3010),
  FORMATION_PUBLIC_URL: z
    .string()
    .refine((text) => origin(text) !== null, ORIGIN)
    .optional(),
  FORMATION_TLS_CERT: z.string().optional(),
  FORMATION_TLS_KEY: z.string().optional(),
  FORMATION_TRUSTED_PROXIES: words.pipe(z.array(z.union([z.cidrv4(), z.cidrv6()]))),
  FORMATION_METRICS_FROM: words.pipe(z.array(z.union([z.cidrv4(), z.cidrv6()]))),
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
  FORMATION_HTTP_CONNECTIONS: z.coerce.number().int().min(1).max(1_000_000).default(1024),
  FORMATION_HTTP_PATIENCE_SECONDS: z.coerce.number().min(0.1).max(3600).default(15),
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
