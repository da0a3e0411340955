// The options that every command takes, and the configuration that they and the environment give.

import { type ParseArgsOptionsConfig, parseArgs } from "node:util";
import { describeTarget, type HttpConfiguration, readHttpConfiguration } from "@formation-mcp/assembly/http";

/**
 * The configuration of a command without options of its own.
 * @throws FormationError `invalid` for wrong settings.
 */
export function settingsFrom(args: string[]): HttpConfiguration {
  return settingsAnd(args, {}).configuration;
}

/**
 * The configuration, and the values of a command's own options.
 * @throws FormationError `invalid` for wrong settings.
 */
export function settingsAnd<T extends ParseArgsOptionsConfig>(args: string[], more: T) {
  const common = { config: { type: "string" }, "state-dir": { type: "string" } } as const;
  const { values } = parseArgs({ args, options: { ...more, ...common } });
  const { config, "state-dir": stateDir } = values as Record<string, string | undefined>;
  return { values, configuration: readHttpConfiguration({ file: config, stateDir }) };
}

/**
 * Prints which records a command works on, because a shell may have other settings than the server's unit.
 */
export function announceTarget(configuration: HttpConfiguration): void {
  process.stderr.write(`formation-mcp-http: works on ${describeTarget(configuration)}.\n`);
}

/** The server's URL if no public URL is set. */
export function localUrl({ host, tls }: Pick<HttpConfiguration, "host" | "tls">, port: number): string {
  const url = new URL(tls ? "https://localhost" : "http://localhost");
  url.hostname = host.includes(":") ? `[${host}]` : host;
  url.port = String(port);
  return url.origin;
}
