// Where settings come from: the environment, read once and checked as a whole. Nothing else in the project reads it.

import { realpathSync } from "node:fs";
import { homedir, totalmem } from "node:os";
import { basename, isAbsolute, join, resolve } from "node:path";
import { FormationError, LIMITS, type Logger } from "@formation-mcp/contract";
import { z } from "zod";
import { unknownVariables, VARIABLES } from "./variables.ts";

const list = (separator: RegExp) =>
  z
    .string()
    .default("")
    .transform((text) => text.split(separator).filter((part) => part !== ""));
const number = (fallback: number, min: number, max: number) => amount(min, max, fallback).default(fallback);
const whole = (min: number, max: number, example: number) =>
  amount(min, max, example).int(`write a whole number, as ${example}`);

/** A number, or what to write instead. */
export function amount(min: number, max: number, example: number) {
  const wrong = `write a number from ${min} to ${max}, as ${example}`;
  return z.coerce.number(wrong).min(min, wrong).max(max, wrong);
}

/** Networks, from a list of words. */
export const networks = z.array(
  z.union([z.cidrv4(), z.cidrv6()], "write networks as 10.0.0.0/8 or fd00::/8, separated by ','"),
);

/** What `shared-configuration.ts` reads. */
const SHARED = /^FORMATION_(DATABASE|NATS)_|^FORMATION_MASTER_KEY_FILE$/;

/** A small machine must be able to build too. */
function usualBuildMemoryMb(): number {
  return Math.min(LIMITS.buildMemoryMb, Math.max(64, Math.floor(totalmem() / 1024 ** 2 / 3)));
}

const schema = z
  .object({
    FORMATION_STATE_DIR: z.string().optional(),
    XDG_STATE_HOME: z.string().optional(),
    FORMATION_ALLOW_DIR: list(/:/),
    FORMATION_BIND_ADDRESS: z
      .union([z.ipv4(), z.ipv6()], "write an IP address, as 10.0.1.21")
      .default("127.0.0.1"),
    FORMATION_ACCELERATOR: z.enum(["auto", "kvm", "tcg"]).default("auto"),
    FORMATION_KERNEL: z.string().optional(),
    FORMATION_KERNEL_MODULES: z.string().optional(),
    FORMATION_BUILD_NETWORK: z.enum(["internet", "none"]).default("internet"),
    FORMATION_VM_EGRESS: z.enum(["internet", "none"]).default("internet"),
    FORMATION_ALLOW_CIDRS: list(/[\s,]+/).pipe(networks),
    FORMATION_DENY_CIDRS: list(/[\s,]+/).pipe(networks),
    FORMATION_PLAIN_HTTP_REGISTRIES: list(/[\s,]+/),
    REGISTRY_AUTH_FILE: z.string().optional(),
    FORMATION_OPERATION_KEPT_SECONDS: number(LIMITS.operationKeptMs / 1000, 1, 31_536_000),
    FORMATION_SWEEP_SECONDS: number(LIMITS.sweepEveryMs / 1000, 0.1, 86_400),
    FORMATION_UNUSED_BUILD_SECONDS: number(LIMITS.unusedBuildKeptMs / 1000, 1, 31_536_000),
    FORMATION_CACHE_GB: number(20, 1, 100_000),
    FORMATION_BUILD_SECONDS: number(LIMITS.buildMs / 1000, 1, 86_400),
    FORMATION_BUILD_MEMORY_MB: number(usualBuildMemoryMb(), 64, 1_048_576),
    FORMATION_BUILD_DISK_MB: number(LIMITS.buildDiskBytes / 1024 ** 2, 16, 2_097_152),
    FORMATION_BOOT_SECONDS: number(LIMITS.bootMs / 1000, 1, 86_400),
    FORMATION_WORKER: z.enum(["auto", "none"]).optional(),
    FORMATION_IDLE_SECONDS: number(300, 0.1, 31_536_000),
    FORMATION_VCPUS: whole(1, 65_536, 16).optional(),
    FORMATION_MEMORY_MB: whole(64, 2 ** 40, 8192).optional(),
    FORMATION_DISK_GB: whole(1, 2 ** 40, 100).optional(),
    FORMATION_LEASE_SECONDS: number(LIMITS.leaseMs / 1000, 1, 600),
    FORMATION_POLL_SECONDS: number(LIMITS.pollEveryMs / 1000, 0.1, 600),
    FORMATION_DRIVERS: z.enum(["real", "fake"]).default("real"),
    FORMATION_FAKE_STEP_SECONDS: number(0, 0, 60),
    FORMATION_LOG_LEVEL: z.enum(["debug", "info", "warn", "error"]).default("info"),
  })
  .refine((env) => (env.FORMATION_KERNEL === undefined) === (env.FORMATION_KERNEL_MODULES === undefined), {
    path: ["FORMATION_KERNEL"],
    message: "FORMATION_KERNEL and FORMATION_KERNEL_MODULES go together",
  });

export interface Configuration {
  stateDir: string;
  allowDirs: string[];
  bindAddress: string;
  accelerator: "auto" | "kvm" | "tcg";
  kernel: { image: string; modules: string; version: string } | null;
  buildNetwork: "internet" | "none";
  vmEgress: "internet" | "none";
  allowCidrs: string[];
  denyCidrs: string[];
  plainHttpRegistries: string[];
  registryAuthFile: string | null;
  operationKeptMs: number;
  sweepEveryMs: number;
  unusedBuildKeptMs: number;
  cacheBytes: number;
  build: { timeoutMs: number; memoryMb: number; diskBytes: number };
  bootMs: number;
  idleMs: number;
  capacity: { vcpus: number | null; memory_mb: number | null; disk_gb: number | null };
  leaseMs: number;
  pollEveryMs: number;
  drivers: "real" | "fake";
  fakeStepMs: number;
  logLevel: "debug" | "info" | "warn" | "error";
  /** Whether to start the background worker; null leaves it to where everything is kept. */
  worker: "auto" | "none" | null;
  /** The settings of what several machines share, as they were given: who reads them loads only where there are some. */
  sharedSettings: Record<string, string>;
}

/**
 * Reads the settings.
 * @param overrides what the command line says, stronger than the environment.
 * @throws FormationError `invalid`, naming every variable that is wrong at once.
 */
export function readConfiguration(
  overrides: { stateDir?: string | undefined; allowDirs?: string[] | undefined } = {},
  environment: Record<string, string | undefined> = process.env,
): Configuration {
  const parsed = schema.safeParse(withoutEmpty(environment));
  const problems = settingsProblems(environment);
  if (!parsed.success || problems.length > 0) throw wrongSettings(problems);
  const env = parsed.data;
  const stateHome = env.XDG_STATE_HOME && isAbsolute(env.XDG_STATE_HOME) ? env.XDG_STATE_HOME : undefined;
  return {
    stateDir: resolve(
      overrides.stateDir ??
        env.FORMATION_STATE_DIR ??
        join(stateHome ?? join(homedir(), ".local", "state"), "formation-mcp"),
    ),
    allowDirs: overrides.allowDirs?.length
      ? overrides.allowDirs.map((dir) => resolve(dir))
      : env.FORMATION_ALLOW_DIR.length
        ? env.FORMATION_ALLOW_DIR.map((dir) => resolve(dir))
        : defaultAllowDirs(),
    bindAddress: env.FORMATION_BIND_ADDRESS,
    accelerator: env.FORMATION_ACCELERATOR,
    kernel:
      env.FORMATION_KERNEL && env.FORMATION_KERNEL_MODULES
        ? {
            image: resolve(env.FORMATION_KERNEL),
            modules: resolve(env.FORMATION_KERNEL_MODULES),
            version: basename(resolve(env.FORMATION_KERNEL_MODULES)),
          }
        : null,
    buildNetwork: env.FORMATION_BUILD_NETWORK,
    vmEgress: env.FORMATION_VM_EGRESS,
    allowCidrs: env.FORMATION_ALLOW_CIDRS,
    denyCidrs: env.FORMATION_DENY_CIDRS,
    plainHttpRegistries: env.FORMATION_PLAIN_HTTP_REGISTRIES,
    registryAuthFile: env.REGISTRY_AUTH_FILE ?? null,
    operationKeptMs: env.FORMATION_OPERATION_KEPT_SECONDS * 1000,
    sweepEveryMs: env.FORMATION_SWEEP_SECONDS * 1000,
    unusedBuildKeptMs: env.FORMATION_UNUSED_BUILD_SECONDS * 1000,
    cacheBytes: env.FORMATION_CACHE_GB * 1024 ** 3,
    build: {
      timeoutMs: env.FORMATION_BUILD_SECONDS * 1000,
      memoryMb: env.FORMATION_BUILD_MEMORY_MB,
      diskBytes: env.FORMATION_BUILD_DISK_MB * 1024 ** 2,
    },
    bootMs: env.FORMATION_BOOT_SECONDS * 1000,
    idleMs: env.FORMATION_IDLE_SECONDS * 1000,
    capacity: {
      vcpus: env.FORMATION_VCPUS ?? null,
      memory_mb: env.FORMATION_MEMORY_MB ?? null,
      disk_gb: env.FORMATION_DISK_GB ?? null,
    },
    leaseMs: env.FORMATION_LEASE_SECONDS * 1000,
    pollEveryMs: env.FORMATION_POLL_SECONDS * 1000,
    drivers: env.FORMATION_DRIVERS,
    fakeStepMs: env.FORMATION_FAKE_STEP_SECONDS * 1000,
    logLevel: env.FORMATION_LOG_LEVEL,
    worker: env.FORMATION_WORKER ?? null,
    sharedSettings: Object.fromEntries(
      Object.entries(withoutEmpty(environment)).filter(([name]) => SHARED.test(name)),
    ),
  };
}

/** What is wrong with the settings that every program reads, one line each. */
export function settingsProblems(environment: Record<string, string | undefined>): string[] {
  const parsed = schema.safeParse(withoutEmpty(environment));
  const { misspelt } = unknownVariables(environment);
  return parsed.success ? misspelt : [...misspelt, ...problemsOf(parsed.error)];
}

/** One line each, once for all words of a list. */
export function problemsOf(error: z.ZodError): string[] {
  return [...new Set(error.issues.map((issue) => `${String(issue.path[0])}: ${issue.message}`))];
}

export function wrongSettings(problems: readonly string[]): FormationError {
  return new FormationError("invalid", `The settings are wrong:\n  ${problems.join("\n  ")}`, {
    remedy: "Set these right; `--help` lists all settings.",
  });
}

/** Says which variables begin as ours do and change nothing: they may be anybody's, or a setting under a wrong name. */
export function tellStrangers(
  logger: Logger,
  environment: Record<string, string | undefined> = process.env,
): void {
  const { strange } = unknownVariables(environment);
  if (strange.length > 0)
    logger.log("warn", "These variables are no settings of ours, and change nothing.", {
      variables: strange,
    });
}

/** A variable that is empty is one that is not set. */
export function withoutEmpty(environment: Record<string, string | undefined>): Record<string, string> {
  const kept = Object.entries(environment).filter(([, value]) => value !== undefined && value !== "");
  return Object.fromEntries(kept) as Record<string, string>;
}

/**
 * The working directory, unless it is the home or holds it, as `/` does: desktop hosts start servers there, and all of it
 * is too much.
 */
function defaultAllowDirs(): string[] {
  const here = process.cwd();
  const homes = [homedir(), realpathIfThere(homedir())];
  return homes.some((home) => home === here || home.startsWith(here === "/" ? here : `${here}/`))
    ? []
    : [here];
}

function realpathIfThere(path: string): string {
  try {
    return realpathSync(path);
  } catch {
    return path;
  }
}

/** The variables that the background worker is started with: ours, and what programs need to be found. */
export function workerEnvironment(
  environment: Record<string, string | undefined> = process.env,
): Record<string, string> {
  const kept = Object.entries(environment).filter(
    ([name, value]) =>
      value !== undefined &&
      (Object.hasOwn(VARIABLES, name) ||
        SHARED.test(name) ||
        ["HOME", "PATH", "USER", "LOGNAME", "TMPDIR", "XDG_RUNTIME_DIR"].includes(name)),
  );
  const env = Object.fromEntries(kept) as Record<string, string>;
  // A desktop host may give an empty PATH; the engines live in the sbin directories too.
  const usual = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];
  const path = (env["PATH"] ?? "").split(":").filter((part) => part !== "");
  env["PATH"] = [...path, ...usual.filter((part) => !path.includes(part))].join(":");
  return env;
}
