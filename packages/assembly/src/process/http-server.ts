// The HTTP server's system: store, queue and artifacts opened, authority, control and doors wired over them.

import { randomBytes } from "node:crypto";
import type { IncomingMessage, ServerResponse } from "node:http";
import { createAuthority } from "@formation-mcp/auth/authority";
import type { Logger } from "@formation-mcp/contract";
import {
  createAudit,
  createControl,
  createNodes,
  createQuotas,
  startDrainer,
  startKeeper,
} from "@formation-mcp/control";
import { createHttpGateway, type GatewayDeps, type HttpGateway } from "@formation-mcp/gateway";
import { createOAuth } from "@formation-mcp/gateway/oauth";
import { openLayout } from "../open/layout.ts";
import { openRecords, serverRecords } from "../open/records.ts";
import { masterKeyOf } from "../open/secret-file.ts";
import type { HttpConfiguration } from "../settings/http-configuration.ts";
import { settleVersions, workerProcess } from "./background-worker.ts";
import type { Program } from "./program.ts";

export interface HttpServerOptions {
  configuration: HttpConfiguration;
  /** The server's origin as clients know it, without a slash at its end. */
  publicUrl: string;
  program: Program;
  logger: Logger;
}

export interface HttpServer {
  /** Answers web-standard requests, and guards what `oauth` answers. */
  gateway: HttpGateway;
  /** The OAuth server on the same origin, for requests that {@link isOAuthPath}. It never rejects. */
  oauth(request: IncomingMessage, response: ServerResponse, address: string): Promise<boolean>;
  /** While there is no account: the one-time token that makes the next key admin, new at each call. Else null. */
  bootstrapToken(): Promise<string | null>;
  /** Ends streams and waiting, so that what runs can finish: the first half of leaving. */
  drain(): void;
  /** Stores what is gathered and closes everything. */
  close(): Promise<void>;
}

/**
 * Opens the system behind the HTTP server.
 * @throws FormationError `unavailable` if the state directory can't be used or a newer program works on it.
 */
export async function openHttpServer(options: HttpServerOptions): Promise<HttpServer> {
  const { configuration, publicUrl, program, logger } = options;
  const layout = openLayout(configuration.stateDir);
  const masterKey = masterKeyOf(layout, configuration.shared.masterKeyFile);
  await settleVersions(configuration, layout, program);
  const records = await openRecords(serverRecords(configuration, layout, logger));
  const { store, queue, artifacts } = records;
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
  const audit = createAudit({ ...common, store: store.audit });
  const quotas = createQuotas({ documents, defaults: configuration.quota, clock: store.clock });
  const worker = configuration.startsWorker
    ? workerProcess(configuration, layout, program, configuration.environment)
    : null;
  const control = createControl({
    ...records,
    ...common,
    audit,
    quotas,
    readOnly: configuration.readOnly,
    denyTools: configuration.denyTools,
    ...(configuration.allowTools ? { allowTools: configuration.allowTools } : {}),
    buildNeeds: { vcpus: 1, memory_mb: configuration.build.memoryMb, disk_gb: 1 },
    knownAs: hostOf(publicUrl),
    ...(worker ? { ensureWorker: () => worker.ensure() } : {}),
  });
  // Where nothing is shared a worker of this server's own does the same.
  const keeper =
    worker && !artifacts.shared
      ? null
      : startKeeper({
          store,
          queue,
          artifacts,
          logger,
          operationKeptMs: configuration.operationKeptMs,
          unusedBuildKeptMs: configuration.unusedBuildKeptMs,
          everyMs: configuration.sweepEveryMs,
          // Where there is one machine, its worker leaves when there is nothing to do.
          ...(artifacts.shared ? {} : { nodeSilentMs: null }),
        });
  const drainer = startDrainer({ store, queue, artifacts, logger });
  const closing = new AbortController();
  const deps: GatewayDeps = {
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
    closing: closing.signal,
  };
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
  const oauth = createOAuth({
    ...deps,
    secret: masterKey,
    rates: configuration.rates,
    outside: configuration.outside,
  });
  return {
    gateway,
    oauth: (request, response, address) => oauth.handle(request, response, address),
    bootstrapToken: () => authority.bootstrapToken(),
    drain: () => closing.abort(),
    async close() {
      closing.abort();
      await gateway.close();
      await Promise.all([keeper?.close(), drainer.close()]);
      await audit.close();
      await records.close();
    },
  };
}

/** A URL's host as other URLs have it: IPv6 addresses without brackets. */
function hostOf(url: string): string {
  return new URL(url).hostname.replace(/^\[(.*)\]$/, "$1");
}
