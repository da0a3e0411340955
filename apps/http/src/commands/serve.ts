// Serves until it is told to stop: listens first, so that a taken port is known before anything is opened, and leaves last
// when what runs is done.

import { readFileSync } from "node:fs";
import {
  createServer as createPlainServer,
  type RequestListener,
  type Server,
  type ServerOptions,
} from "node:http";
import { createServer as createTlsServer, type Server as TlsServer } from "node:https";
import type { AddressInfo } from "node:net";
import { jsonLogger, warnUnknownVariables } from "@formation-mcp/assembly";
import {
  createServiceManager,
  type HttpConfiguration,
  type HttpServer,
  openHttpServer,
} from "@formation-mcp/assembly/http";
import { addressKey, plainAddress, trustProxies } from "@formation-mcp/gateway";
import { createListener } from "../listener.ts";
import { gatheredLines } from "../log.ts";
import { settingsFrom, usualUrl } from "../options.ts";
import { shareConnections, watchBodies, watchConnections } from "../patience.ts";
import { VERSION } from "../version.ts";

type Logger = ReturnType<typeof jsonLogger>;

const LIMITS: ServerOptions = {
  maxHeaderSize: 16 * 1024,
  // Bodies have their own time: see patience.ts.
  requestTimeout: 0,
  insecureHTTPParser: false,
};
const HANDSHAKE_MS = 10_000;
/** A connection on which nothing moves; streams send something every 15 s, and no call waits for longer than 45 s. */
const SILENT_MS = 120_000;
const LEAVE_MS = 25_000;
/** Of all connections one address may have so many, unless it is a trusted proxy. */
const SHARE = 0.5;

export async function serve(args: string[]): Promise<number> {
  const configuration = settingsFrom(args);
  const logger = jsonLogger(configuration.logLevel, gatheredLines());
  warnUnknownVariables(logger, configuration);
  let listener: RequestListener = (_, response) => {
    response
      .writeHead(503, { "retry-after": "1", "content-type": "application/json" })
      .end('{"status":"starting"}');
  };
  const manager = createServiceManager(logger);
  const server = createServer(configuration, (request, response) => listener(request, response));
  const closeIdle = watchConnections(server);
  const left = toldToLeave();
  const port = await listen(server, configuration);
  const publicUrl = configuration.publicUrl ?? usualUrl(configuration, port);
  let system: HttpServer;
  try {
    system = await openHttpServer({
      configuration,
      publicUrl,
      logger,
      program: { version: VERSION, entry: process.argv[1] ?? "", name: "formation-mcp-http" },
    });
  } catch (error) {
    server.closeAllConnections();
    server.close();
    throw error;
  }
  listener = createListener(system, publicUrl);
  if (configuration.tls) reloadOnHangup(server as TlsServer, configuration.tls, logger);
  await tellBootstrapToken(system, publicUrl);
  logger.log("info", "listening", {
    url: publicUrl,
    address: `${configuration.host}:${port}`,
    version: VERSION,
    pid: process.pid,
    state_dir: configuration.stateDir,
  });
  process.stdout.write(`formation-mcp-http ${VERSION} listens: ${publicUrl}\n`);
  await manager.ready(`serving ${publicUrl}`);

  const signal = await left.first;
  logger.log("info", "leaving", { signal });
  await manager.leaving();
  await finish(server, closeIdle, system, left.second);
  await system.close();
  manager.close();
  logger.log("info", "left", {});
  return 0;
}

function createServer(
  { tls, connections, trustedProxies, headTimeoutMs }: HttpConfiguration,
  listener: RequestListener,
): Server {
  const limits: ServerOptions = {
    ...LIMITS,
    headersTimeout: headTimeoutMs,
    keepAliveTimeout: 2 * headTimeoutMs,
    connectionsCheckingInterval: Math.min(1000, headTimeoutMs / 2),
  };
  const server = tls
    ? createTlsServer(
        { ...limits, ...readTls(tls), minVersion: "TLSv1.2", handshakeTimeout: HANDSHAKE_MS },
        listener,
      )
    : createPlainServer(limits, listener);
  server.maxConnections = connections;
  server.maxHeadersCount = 100;
  server.setTimeout(SILENT_MS);
  const proxies = trustProxies(trustedProxies);
  shareConnections(server, Math.ceil(connections * SHARE), (peer) =>
    proxies.trusted(plainAddress(peer)) ? null : addressKey(plainAddress(peer)),
  );
  watchBodies(server, { bodyMs: 2 * headTimeoutMs, uploadMs: headTimeoutMs });
  return server;
}

function readTls({ cert, key }: { cert: string; key: string }): { cert: Buffer; key: Buffer } {
  return { cert: readFileSync(cert), key: readFileSync(key) };
}

function reloadOnHangup(server: TlsServer, tls: { cert: string; key: string }, logger: Logger): void {
  process.on("SIGHUP", () => {
    try {
      server.setSecureContext({ ...readTls(tls), minVersion: "TLSv1.2" });
      logger.log("info", "The certificate was read again.");
    } catch (error) {
      logger.log("error", "The new certificate can't be used; the old one stays.", { error });
    }
  });
}

async function listen(server: Server, { host, port }: HttpConfiguration): Promise<number> {
  await new Promise<void>((resolve, reject) => {
    const refused = (error: NodeJS.ErrnoException) => reject(unheard(error, host, port));
    server.once("error", refused);
    server.listen({ host, port, exclusive: true }, () => {
      server.off("error", refused);
      resolve();
    });
  });
  return (server.address() as AddressInfo).port;
}

function unheard(cause: NodeJS.ErrnoException, host: string, port: number): Error {
  const why =
    {
      EADDRINUSE: "another program has it",
      EACCES: "this user may not",
      EADDRNOTAVAIL: "no such address is here",
    }[cause.code ?? ""] ?? cause.message;
  return new Error(
    `It can't listen at ${host}, port ${port}: ${why} (${cause.code}).\n  Set FORMATION_HTTP_PORT or FORMATION_HTTP_HOST to where it can.`,
    { cause },
  );
}

/** Not into the log, which others may read: it is good once, until there is an account. */
async function tellBootstrapToken(system: HttpServer, publicUrl: string): Promise<void> {
  const token = await system.bootstrapToken();
  if (token === null) return;
  process.stderr.write(
    `\nThis server has no account yet. Make your key its admin, once:\n\n  formation-mcp login --server ${publicUrl} --bootstrap ${token}\n\n`,
  );
}

/** No new requests; those that run end, at the latest after 25 s or at the second signal. */
async function finish(
  server: Server,
  closeIdle: () => void,
  system: HttpServer,
  hurry: Promise<unknown>,
): Promise<void> {
  const closed = new Promise<void>((resolve) => server.close(() => resolve()));
  system.drain();
  const idle = setInterval(closeIdle, 50);
  let late: NodeJS.Timeout | undefined;
  const patience = new Promise<void>((resolve) => {
    late = setTimeout(resolve, LEAVE_MS);
  });
  await Promise.race([closed, patience, hurry]);
  clearInterval(idle);
  clearTimeout(late);
  server.closeAllConnections();
}

function toldToLeave(): { first: Promise<string>; second: Promise<string> } {
  const first = Promise.withResolvers<string>();
  const second = Promise.withResolvers<string>();
  let told = false;
  for (const signal of ["SIGTERM", "SIGINT"] as const) {
    process.on(signal, () => {
      (told ? second : first).resolve(signal);
      told = true;
    });
  }
  return { first: first.promise, second: second.promise };
}
