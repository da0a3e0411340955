// The options that every command of this program takes.

import { parseArgs } from "node:util";
import { type HttpConfiguration, readHttpConfiguration } from "@formation-mcp/assembly/http";

/** @throws FormationError `invalid` for settings that make no sense. */
export function settingsFrom(args: string[]): HttpConfiguration {
  const { values } = parseArgs({
    args,
    options: { config: { type: "string" }, "state-dir": { type: "string" } },
  });
  return readHttpConfiguration({ file: values.config, stateDir: values["state-dir"] });
}

/** Where the server is for those who are told no public URL. */
export function usualUrl({ host, tls }: Pick<HttpConfiguration, "host" | "tls">, port: number): string {
  const url = new URL(tls ? "https://localhost" : "http://localhost");
  url.hostname = host.includes(":") ? `[${host}]` : host;
  url.port = String(port);
  return url.origin;
}
