// The kinds of settings: numbers with bounds, durations, lists, addresses, paths. Each has a schema for the
// text of a variable, whose messages say what to write instead, and a default.

import { isIP } from "node:net";
import { resolve } from "node:path";
import { z } from "zod";
import type { Environment, SettingKind } from "./setting.ts";

type Schema<T> = () => z.ZodType<T>;

interface Bounds {
  min: number;
  max: number;
  default: number;
}

/** A kind with a fixed default. `shown` is the text of the default. */
export function withDefault<T>(
  schema: Schema<T>,
  value: T,
  shown: string | null = String(value),
): SettingKind<T> {
  return { schema, default: shown, fallback: () => value };
}

/** A kind that is null if the variable is not set. `shown` says in help what happens then. */
export function optional<T>(schema: Schema<T>, shown: string | null = null): SettingKind<T | null> {
  return withDefault<T | null>(schema, null, shown);
}

/** A kind whose default depends on this machine. `shown` says in help what it is. */
export function computed<T>(
  schema: Schema<T>,
  shown: string,
  fallback: (environment: Environment) => T,
): SettingKind<T> {
  return { schema, default: shown, fallback };
}

export const text = () => z.string();

/** A path, made absolute. */
export const path = () => z.string().transform((given) => resolve(given));

export const ipAddress = () => z.union([z.ipv4(), z.ipv6()], "write an IP address, as 10.0.1.21");

/** A number within bounds; the message of a wrong one contains `example`. */
export function amount(min: number, max: number, example: number) {
  const wrong = `write a number from ${min} to ${max}, as ${example}`;
  return () => z.coerce.number(wrong).min(min, wrong).max(max, wrong);
}

export function wholeAmount(min: number, max: number, example: number) {
  const schema = amount(min, max, example);
  return () => schema().int(`write a whole number, as ${example}`);
}

export function whole({ min, max, default: usual }: Bounds): SettingKind<number> {
  return withDefault(wholeAmount(min, max, usual), usual);
}

/** Bounds and default in seconds, as the variable has them; the value is in milliseconds. */
export function seconds(bounds: Bounds): SettingKind<number> {
  return multiplied(1000, bounds);
}

/** Bounds and default in MiB or GiB, as the variable has them; the value is in bytes. */
export function bytes(unit: number, bounds: Bounds): SettingKind<number> {
  return multiplied(unit, bounds);
}

function multiplied(factor: number, { min, max, default: usual }: Bounds): SettingKind<number> {
  const schema = () => amount(min, max, usual)().transform((given) => given * factor);
  return withDefault(schema, usual * factor, String(usual));
}

export function oneOf<const T extends string>(words: readonly T[], usual: NoInfer<T>): SettingKind<T> {
  return withDefault(() => z.enum(words), usual);
}

/** Yes or no; no by default. */
export function flag(): SettingKind<boolean> {
  const schema = () =>
    z
      .enum(["yes", "true", "1", "on", "no", "false", "0", "off"])
      .transform((given) => ["yes", "true", "1", "on"].includes(given));
  return withDefault(schema, false, "no");
}

/** A count, or `none` for no limit, which is null. */
export function limit(usual: number): SettingKind<number | null> {
  const wrong = `write a whole number, as ${usual}, or none`;
  const count = () => z.coerce.number(wrong).int(wrong).min(0, wrong).max(1e9, wrong);
  const schema = () => z.union([z.literal("none").transform(() => null), count()], wrong);
  return withDefault<number | null>(schema, usual);
}

/** Entries separated by commas or white space; none by default. */
export function list<T>(
  entries: () => z.ZodType<T[], string[]>,
  shown: string | null = null,
): SettingKind<T[]> {
  return withDefault<T[]>(() => splitAt(/[\s,]+/).pipe(entries()), [], shown);
}

/** Directories separated by colons, as in PATH. */
export const directories = () => splitAt(/:/).transform((given) => given.map((each) => resolve(each)));

export function splitAt(separator: RegExp) {
  return z.string().transform((given) => given.split(separator).filter((part) => part !== ""));
}

export const words = () => z.array(z.string());

export const networks = () =>
  z.array(z.union([z.cidrv4(), z.cidrv6()], "write networks as 10.0.0.0/8 or fd00::/8, separated by ','"));

/** An HTTP origin exactly as browsers write it. */
export const origin = () =>
  z
    .string()
    .refine(isOrigin, "write an origin as https://vm.example.org: lower case, no path, no slash at its end");

/** Where a server listens: an IP address or localhost. */
export const listenAddress = () =>
  z.string().refine((given) => isIP(given) !== 0 || given === "localhost", "write an IP address");

/** `host:port`, taken apart. */
export const hostAndPort = () =>
  z.string().transform((given, context) => {
    const found = /^(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9.-]+)):(\d{1,5})$/.exec(given);
    const port = Number(found?.[3]);
    if (found && port <= 65_535) return { host: found[1] ?? found[2] ?? "", port };
    context.addIssue({ code: "custom", message: "write host:port, as 127.0.0.1:9464" });
    return z.NEVER;
  });

/** A URL, or null if the text is none. Works on Node 20, which has no URL.parse. */
export function urlOf(given: string): URL | null {
  return URL.canParse(given) ? new URL(given) : null;
}

function isOrigin(given: string): boolean {
  const url = urlOf(given);
  return url !== null && ["http:", "https:"].includes(url.protocol) && url.origin === given;
}
