// The options that every command of this program takes, and those of one command beside them.

import { type ParseArgsOptionsConfig, parseArgs } from "node:util";
import { describeTarget, type HttpConfiguration, readHttpConfiguration } from "@formation-mcp/assembly/http";

/** @throws FormationError `invalid` for settings that make no sense. */
export function settingsFrom(args: string[]): HttpConfiguration {
  return settingsAnd(args, {}).configuration;
}

/** @throws FormationError `invalid` for settings that make no sense. */
export function settingsAnd<T extends ParseArgsOptionsConfig>(args: string[], more: T) {
  const common = { config: { type: "string" }, "state-dir": { type: "string" } } as const;
  const { values } = parseArgs({ args, options: { ...more, ...common } });
  const { config, "state-dir": stateDir } = values as Record<string, string | undefined>;
  return { values, configuration: readHttpConfiguration({ file: config, stateDir }) };
}

/** Tells the operator which records a command works on, before it does: a shell's settings are not a unit's. */
export function announceTarget(configuration: HttpConfiguration): void {
  process.stderr.write(`formation-mcp-http: works on ${describeTarget(configuration)}.\n`);
}

/** Where the server is for those who are told no public URL. */
export function usualUrl({ host, tls }: Pick<HttpConfiguration, "host" | "tls">, port: number): string {
  const url = new URL(tls ? "https://localhost" : "http://localhost");
  url.hostname = host.includes(":") ? `[${host}]` : host;
  url.port = String(port);
  return url.origin;
}
