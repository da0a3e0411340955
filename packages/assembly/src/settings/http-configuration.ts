// The configuration of the HTTP server, and what is wrong with its settings together: certificates, files,
// and plain HTTP beyond this machine.

import { readFileSync } from "node:fs";
import { isIP } from "node:net";
import { createSecureContext } from "node:tls";
import { type Configuration, parseCommon, type SettingOverrides } from "./configuration.ts";
import { HTTP, type HttpSettings } from "./http.ts";
import { gather, parseSection, wrongSettings } from "./read.ts";
import { complete, type Environment } from "./setting.ts";
import { secretProblems } from "./shared.ts";

export interface HttpConfiguration extends Configuration, Omit<HttpSettings, "tls"> {
  /** Paths of PEM files; null: plain HTTP. */
  tls: { cert: string; key: string } | null;
}

/**
 * Reads the settings of the HTTP server.
 * @throws FormationError `invalid`, naming everything that is wrong at once.
 */
export function readHttpConfiguration(
  overrides: SettingOverrides = {},
  environment: Environment = process.env,
): HttpConfiguration {
  const given = gather("formation-mcp-http", environment, overrides.file);
  const common = parseCommon(given, overrides);
  const http = parseSection(HTTP, given, httpProblems);
  if (common?.shared.database && http?.masterKeyFile === null) {
    given.problems.push(
      "FORMATION_MASTER_KEY_FILE: set it, as what it seals is in the database: a file of 32 random bytes that every server has",
    );
  }
  if (given.problems.length > 0 || !common || !http) throw wrongSettings(given.problems);
  return { ...common, ...http, tls: complete(http.tls) };
}

/** What each setting allows alone and all together do not, and files that cannot be used; one line each. */
function httpProblems(http: HttpSettings): string[] {
  return [
    ...secretProblems("FORMATION_MASTER_KEY_FILE", http.masterKeyFile),
    ...certificateProblems(http),
    ...exposureProblems(http),
  ];
}

function certificateProblems({ tls: { cert, key }, oauthClients: { caFile } }: HttpSettings): string[] {
  const problems: string[] = [];
  if ((cert === null) !== (key === null)) {
    problems.push("FORMATION_TLS_CERT: FORMATION_TLS_CERT and FORMATION_TLS_KEY go together");
  } else if (cert !== null && key !== null) {
    try {
      createSecureContext({ cert: readFileSync(cert), key: readFileSync(key) });
    } catch (error) {
      problems.push(`FORMATION_TLS_CERT: the certificate can't be used: ${(error as Error).message}`);
    }
  }
  try {
    if (caFile !== null) readFileSync(caFile);
  } catch (error) {
    problems.push(`FORMATION_CLIENT_CA: ${(error as Error).message}`);
  }
  return problems;
}

/** Tokens must not travel over plain HTTP unless an operator says so. */
function exposureProblems({ host, publicUrl, tls, trustedProxies, plainHttp }: HttpSettings): string[] {
  const problems: string[] = [];
  const beyond = !isLoopbackHost(host);
  if (beyond && publicUrl === null) {
    problems.push(
      "FORMATION_PUBLIC_URL: say what clients call this server, as it listens beyond this machine",
    );
  }
  if (beyond && tls.cert === null && trustedProxies.length === 0 && !plainHttp) {
    problems.push(
      "FORMATION_HTTP_HOST: plain HTTP beyond this machine shows tokens to the network: set FORMATION_TLS_CERT and FORMATION_TLS_KEY, FORMATION_TRUSTED_PROXIES if a proxy speaks TLS, or FORMATION_PLAIN_HTTP=yes",
    );
  }
  if (tls.cert !== null && publicUrl?.startsWith("http:")) {
    problems.push("FORMATION_PUBLIC_URL: write https, as the server speaks TLS");
  }
  const plainPublic =
    publicUrl?.startsWith("http:") && !isLoopbackHost(new URL(publicUrl).hostname.replace(/^\[|\]$/g, ""));
  if (plainPublic && !plainHttp) {
    problems.push("FORMATION_PUBLIC_URL: write https, or set FORMATION_PLAIN_HTTP=yes");
  }
  return problems;
}

function isLoopbackHost(host: string): boolean {
  return host === "localhost" || host === "::1" || (isIP(host) === 4 && host.startsWith("127."));
}
