// Serves until a signal. It listens first, so that a taken port is reported before anything is opened, and it
// leaves when the running requests have ended.

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
import { bufferedLines } from "../log.ts";
import { localUrl, settingsFrom } from "../options.ts";
import { limitConnections, watchBodies, watchConnections } from "../timeouts.ts";
import { VERSION } from "../version.ts";

type Logger = ReturnType<typeof jsonLogger>;

const SERVER_OPTIONS: ServerOptions = {
  maxHeaderSize: 16 * 1024,
  // timeouts.ts bounds the time of bodies.
  requestTimeout: 0,
  insecureHTTPParser: false,
};
const HANDSHAKE_MS = 10_000;
/**
 * For a connection without traffic. Streams send something every 15 s, and no call waits longer than 45 s.
 */
const IDLE_CONNECTION_MS = 120_000;
const LEAVE_MS = 25_000;
/** The share of all connections that one address may have, unless it is a trusted proxy. */
const MAX_SHARE_PER_ADDRESS = 0.5;

export async function serve(args: string[]): Promise<number> {
  const configuration = settingsFrom(args);
  const logger = jsonLogger(configuration.logLevel, bufferedLines());
  warnUnknownVariables(logger, configuration);
  let listener: RequestListener = (_, response) => {
    response
      .writeHead(503, { "retry-after": "1", "content-type": "application/json" })
      .end('{"status":"starting"}');
  };
  const manager = createServiceManager(logger);
  const server = createServer(configuration, (request, response) => listener(request, response));
  const closeIdle = watchConnections(server);
  const signals = leaveSignals();
  const port = await listen(server, configuration);
  const publicUrl = configuration.publicUrl ?? localUrl(configuration, port);
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
  await printBootstrapToken(system, publicUrl);
  logger.log("info", "listening", {
    url: publicUrl,
    address: `${configuration.host}:${port}`,
    version: VERSION,
    pid: process.pid,
    state_dir: configuration.stateDir,
  });
  process.stdout.write(`formation-mcp-http ${VERSION} listens: ${publicUrl}\n`);
  await manager.ready(`serving ${publicUrl}`);

  const signal = await signals.first;
  logger.log("info", "leaving", { signal });
  await manager.leaving();
  await finish(server, closeIdle, system, signals.second);
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
    ...SERVER_OPTIONS,
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
  server.setTimeout(IDLE_CONNECTION_MS);
  const proxies = trustProxies(trustedProxies);
  limitConnections(server, Math.ceil(connections * MAX_SHARE_PER_ADDRESS), (peer) =>
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
    const refused = (error: NodeJS.ErrnoException) => reject(listenError(error, host, port));
    server.once("error", refused);
    server.listen({ host, port, exclusive: true }, () => {
      server.off("error", refused);
      resolve();
    });
  });
  return (server.address() as AddressInfo).port;
}

function listenError(cause: NodeJS.ErrnoException, host: string, port: number): Error {
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

/**
 * To standard error and not into the log, which others may read. The token works once, until there is an
 * account.
 */
async function printBootstrapToken(system: HttpServer, publicUrl: string): Promise<void> {
  const token = await system.bootstrapToken();
  if (token === null) return;
  process.stderr.write(
    `\nThis server has no account yet. Make your key its admin, once:\n\n  formation-mcp login --server ${publicUrl} --bootstrap ${token}\n\n`,
  );
}

/**
 * Accepts no more requests, and waits until the running ones have ended, for 25 s, or until the second
 * signal.
 */
async function finish(
  server: Server,
  closeIdle: () => void,
  system: HttpServer,
  secondSignal: Promise<unknown>,
): Promise<void> {
  const closed = new Promise<void>((resolve) => server.close(() => resolve()));
  system.drain();
  const idle = setInterval(closeIdle, 50);
  let late: NodeJS.Timeout | undefined;
  const timeout = new Promise<void>((resolve) => {
    late = setTimeout(resolve, LEAVE_MS);
  });
  await Promise.race([closed, timeout, secondSignal]);
  clearInterval(idle);
  clearTimeout(late);
  server.closeAllConnections();
}

function leaveSignals(): { first: Promise<string>; second: Promise<string> } {
  const first = Promise.withResolvers<string>();
  const second = Promise.withResolvers<string>();
  let signalled = false;
  for (const signal of ["SIGTERM", "SIGINT"] as const) {
    process.on(signal, () => {
      (signalled ? second : first).resolve(signal);
      signalled = true;
    });
  }
  return { first: first.promise, second: second.promise };
}
