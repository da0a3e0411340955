// The HTTP server's system: store, queue and artifacts, and over them the authority, the control, MCP, REST
// and OAuth.

import { randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import type { IncomingMessage, ServerResponse } from "node:http";
import { createAuthority } from "@formation-mcp/auth/authority";
import type { Logger } from "@formation-mcp/contract";
import {
  createControl,
  createNodes,
  createQuotas,
  openAudit,
  startDrainer,
  startMaintenance,
} from "@formation-mcp/control";
import { createHttpGateway, type GatewayDeps, type HttpGateway } from "@formation-mcp/gateway";
import { createOAuthServer } from "@formation-mcp/gateway/oauth";
import { type Backends, openBackends, serverBackends } from "../open/backends.ts";
import { openLayout } from "../open/layout.ts";
import { masterKeyOf } from "../open/secret-file.ts";
import type { HttpConfiguration } from "../settings/http-configuration.ts";
import { startsWorker } from "../settings/shared.ts";
import { type BackgroundWorker, createBackgroundWorker, retireOlderWorker } from "./background-worker.ts";
import type { Program } from "./program.ts";

export interface HttpServerOptions {
  configuration: HttpConfiguration;
  /** The server's origin as clients know it, without a slash at its end. */
  publicUrl: string;
  program: Program;
  logger: Logger;
}

export interface HttpServer {
  /** Answers web-standard requests, and checks those that `oauth` answers. */
  gateway: HttpGateway;
  /** The OAuth server on the same origin, for requests that {@link isOAuthPath}. It never rejects. */
  oauth(request: IncomingMessage, response: ServerResponse, address: string): Promise<boolean>;
  /** A new one-time token that makes the next key admin, or null if there is an account. */
  bootstrapToken(): Promise<string | null>;
  /** Ends streams and waiting calls, so that running requests can finish. Call it before `close`. */
  drain(): void;
  /** Writes the end of the audit log and closes everything. */
  close(): Promise<void>;
}

/**
 * Opens the system behind the HTTP server.
 * @throws FormationError `unavailable` if the state directory can't be used or a newer program works on it.
 */
export async function openHttpServer(options: HttpServerOptions): Promise<HttpServer> {
  const { configuration, program, logger } = options;
  const layout = openLayout(configuration.stateDir);
  const masterKey = masterKeyOf(layout, configuration.masterKeyFile);
  await retireOlderWorker(configuration, layout, program);
  const backends = await openBackends(serverBackends(configuration, layout, logger));
  const worker = startsWorker(configuration) ? createBackgroundWorker(configuration, layout, program) : null;
  const closing = new AbortController();
  const deps = createDeps(options, backends, masterKey, worker, closing.signal);
  const maintenance = startServerMaintenance(configuration, backends, worker !== null, logger);
  const gateway = createHttpGateway({
    ...deps,
    settings: {
      allowedHosts: configuration.allowedHosts,
      corsOrigins: configuration.corsOrigins,
      trustedProxies: configuration.trustedProxies,
      metricsFrom: configuration.metricsFrom,
      rates: configuration.rates,
    },
  });
  const { privateHosts, caFile } = configuration.oauthClients;
  const oauth = createOAuthServer({
    ...deps,
    secret: masterKey,
    rates: configuration.rates,
    outside: { privateHosts, ...(caFile ? { ca: readFileSync(caFile, "utf8") } : {}) },
  });
  return {
    gateway,
    oauth: (request, response, address) => oauth.handle(request, response, address),
    bootstrapToken: () => deps.authority.bootstrapToken(),
    drain: () => closing.abort(),
    async close() {
      closing.abort();
      await gateway.close();
      await maintenance.close();
      await deps.audit.close();
      await backends.close();
    },
  };
}

/** What MCP, REST and OAuth work with. */
function createDeps(
  { configuration, publicUrl, program, logger }: HttpServerOptions,
  backends: Backends,
  masterKey: Uint8Array,
  worker: BackgroundWorker | null,
  closing: AbortSignal,
) {
  const { store, queue, artifacts } = backends;
  const { documents, counters } = store;
  const common = { clock: store.clock, random: randomBytes, logger };
  const authority = createAuthority({
    ...common,
    documents,
    issuer: publicUrl,
    audience: `${publicUrl}/mcp`,
    masterKey,
    openRegistration: configuration.openRegistration,
  });
  const audit = openAudit({ ...common, store: store.audit });
  const quotas = createQuotas({ documents, defaults: configuration.quota, clock: store.clock });
  const control = createControl({
    ...backends,
    ...common,
    audit,
    quotas,
    readOnly: configuration.readOnly,
    denyTools: configuration.denyTools,
    ...(configuration.allowTools.length > 0 ? { allowTools: configuration.allowTools } : {}),
    buildNeeds: { vcpus: 1, memory_mb: configuration.build.memoryMb, disk_gb: 1 },
    knownAs: hostOf(publicUrl),
    ...(worker ? { ensureWorker: () => worker.ensure() } : {}),
  });
  return {
    ...common,
    control,
    authority,
    audit,
    auditLog: store.audit,
    quotas,
    nodes: createNodes({ store, queue, clock: store.clock }),
    usage: (owner) => store.usage(owner),
    documents,
    counters,
    artifacts,
    queue,
    publicUrl,
    version: program.version,
    closing,
  } satisfies GatewayDeps;
}

/** Sweeps what has expired and drains nodes, unless a background worker of this server sweeps. */
function startServerMaintenance(
  configuration: HttpConfiguration,
  { store, queue, artifacts }: Backends,
  hasWorker: boolean,
  logger: Logger,
): { close(): Promise<void> } {
  const maintenance =
    hasWorker && !artifacts.shared
      ? null
      : startMaintenance({
          store,
          queue,
          artifacts,
          logger,
          operationKeptMs: configuration.operationKeptMs,
          unusedBuildKeptMs: configuration.unusedBuildKeptMs,
          everyMs: configuration.sweepEveryMs,
          // The worker of a single machine leaves when idle, so its silence means nothing.
          ...(artifacts.shared ? {} : { nodeSilentMs: null }),
        });
  const drainer = startDrainer({ store, queue, artifacts, logger });
  return {
    async close() {
      await Promise.all([maintenance?.close(), drainer.close()]);
    },
  };
}

/** A URL's host as other URLs have it: IPv6 addresses without brackets. */
function hostOf(url: string): string {
  return new URL(url).hostname.replace(/^\[(.*)\]$/, "$1");
}
