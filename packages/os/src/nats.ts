// The connection of a process to NATS: its credentials, TLS where it is configured, and unlimited reconnects
// after the first connection. Keys and certificates are read again at each reconnect, so that new ones take
// effect without a restart.

import { readFileSync } from "node:fs";
import { isIP } from "node:net";
import { checkServerIdentity } from "node:tls";
import { FormationError, type Logger, silentLogger } from "@formation-mcp/contract";
import { createUser, fromSeed } from "@nats-io/nkeys";
import {
  type Authenticator,
  AuthorizationError,
  connect,
  credsAuthenticator,
  type NatsConnection,
  type NodeConnectionOptions,
  nkeyAuthenticator,
  usernamePasswordAuthenticator,
} from "@nats-io/transport-node";
import { writeFileAtomic } from "./atomic-files.ts";

export type { NatsConnection } from "@nats-io/transport-node";

/** The credentials of a process. Their files should have mode 0600. */
export type NatsCredentials =
  | { kind: "creds"; path: string }
  | { kind: "nkey"; path: string }
  | { kind: "password"; user: string; password: string };

export interface ConnectNatsOptions {
  /** Some servers of the cluster: `nats://host:4222`, or `tls://host:4222`, which requires TLS. */
  servers: string[];
  /** The name of the connection, as the server's operator sees it. */
  name: string;
  credentials?: NatsCredentials;
  /** PEM files. With any of them, or with a `tls://` server, TLS is required. */
  tls?: { ca?: string; cert?: string; key?: string };
  /** The prefix of reply subjects: for a least-privilege user the only one that it may subscribe to. */
  inboxPrefix?: string;
  /** Limit for the first connection, in milliseconds. Default: 10,000. */
  timeoutMs?: number;
  /** Interval between reconnects, in milliseconds. Default: 500. */
  reconnectMs?: number;
  /**
   * Interval between pings, in milliseconds. After two missed pings the client reconnects. Default: 5,000.
   */
  pingMs?: number;
  logger?: Logger;
}

/** Texts of errors that retrying does not fix: refused credentials or certificates. */
const REFUSAL_TEXT = /authorization|authentication|certificate|bad_certificate|unknown ca/i;

/**
 * Connects to NATS. After the first connection the client reconnects without limit. The caller closes it.
 * @throws FormationError `unavailable` if no server answered in time; `unauthenticated` if one refused the
 *   credentials; `invalid` if a file or an address is unusable.
 */
export async function connectNats(options: ConnectNatsOptions): Promise<NatsConnection> {
  const logger = options.logger ?? silentLogger;
  const settings = settingsOf(options);
  const end = performance.now() + (options.timeoutMs ?? 10_000);
  for (;;) {
    const left = Math.max(1, end - performance.now());
    try {
      const connection = await connect({ ...settings, timeout: left });
      void logStatus(connection, logger);
      return connection;
    } catch (error) {
      if (isRefusal(error)) throw refused(error);
      if (error instanceof FormationError) throw error;
      if (performance.now() + 200 >= end) throw unreachable(options.servers, error);
      await new Promise((resolve) => setTimeout(resolve, 200));
    }
  }
}

/**
 * Makes a user's key pair (https://docs.nats.io, "NKeys"). The seed is written to a file with mode 0600.
 * @returns the public key, which begins with U and belongs in the server's configuration.
 * @throws FormationError `unavailable` if the file cannot be written.
 */
export function createNatsKey(path: string): string {
  const pair = createUser();
  writeFileAtomic(path, `${new TextDecoder().decode(pair.getSeed())}\n`);
  return pair.getPublicKey();
}

/**
 * The public key that belongs to the seed in a file.
 * @throws FormationError `invalid` if the file holds none.
 */
export function natsKeyOf(path: string): string {
  try {
    return fromSeed(new TextEncoder().encode(readFileSync(path, "utf8").trim())).getPublicKey();
  } catch (error) {
    const { code, syscall } = error as NodeJS.ErrnoException;
    if (syscall !== undefined) {
      throw new FormationError("invalid", `The key in ${path} can't be read by this user (${code}).`, {
        remedy: "Keep the file, and run this as the user that may read it.",
      });
    }
    // The library's message is left out because it may quote a part of the file.
    throw new FormationError("invalid", `There is no key in ${path}.`, {
      remedy: "Remove the file, and a new one is made; it needs a new entry at the server.",
    });
  }
}

function settingsOf(options: ConnectNatsOptions): NodeConnectionOptions {
  const encrypted =
    options.tls !== undefined || options.servers.some((server) => server.startsWith("tls://"));
  for (const server of options.servers) checkAddress(server);
  if (options.servers.length === 0)
    throw new FormationError("invalid", "A NATS server's address is missing.");
  const { ca, cert, key } = options.tls ?? {};
  return {
    servers: options.servers,
    name: options.name,
    maxReconnectAttempts: -1,
    ignoreAuthErrorAbort: true,
    reconnectTimeWait: options.reconnectMs ?? 500,
    pingInterval: options.pingMs ?? 5_000,
    maxPingOut: 2,
    ...(options.credentials ? { authenticator: authenticatorOf(options.credentials) } : {}),
    ...(options.inboxPrefix === undefined ? {} : { inboxPrefix: options.inboxPrefix }),
    ...(encrypted
      ? {
          tls: {
            ...certificateCheck(options.servers),
            ...(ca === undefined ? {} : { caFile: ca }),
            ...(cert === undefined ? {} : { certFile: cert }),
            ...(key === undefined ? {} : { keyFile: key }),
          },
        }
      : {}),
  };
}

/** An address appears in logs and in `ps`, so it must not contain credentials. */
function checkAddress(server: string): void {
  if (/^(?:(?:nats|tls):\/\/)?(?:[A-Za-z0-9.-]+|\[[0-9A-Fa-f:]+\])(?::\d{1,5})?$/.test(server)) return;
  throw new FormationError("invalid", "A NATS server's address is none.", {
    remedy: "Write nats://host:4222 or tls://host:4222; credentials belong into a file of their own.",
  });
}

/**
 * Checks a server's certificate. The NATS library passes no name for a server that is given by its IP
 * address, and TLS then checks for "localhost". In that case the certificate must be for one of the
 * configured addresses.
 */
function certificateCheck(servers: string[]): { checkServerIdentity: typeof checkServerIdentity } {
  const hosts = servers.map((server) => hostOf(server));
  return {
    checkServerIdentity(name, certificate) {
      const names = name === "localhost" ? hosts.filter((host) => host === name || isIP(host) !== 0) : [name];
      const wrong = (names.length > 0 ? names : [name]).map((each) => checkServerIdentity(each, certificate));
      return wrong.includes(undefined) ? undefined : wrong[0];
    },
  };
}

function hostOf(server: string): string {
  return server
    .replace(/^\w+:\/\//, "")
    .replace(/:\d+$/, "")
    .replace(/^\[|\]$/g, "");
}

function authenticatorOf(credentials: NatsCredentials): Authenticator {
  if (credentials.kind === "password") {
    return usernamePasswordAuthenticator(credentials.user, credentials.password);
  }
  const read = rereadable(credentials.path, (bytes) => {
    if (credentials.kind === "nkey") fromSeed(bytes);
    else credsAuthenticator(bytes)("");
  });
  return credentials.kind === "nkey" ? nkeyAuthenticator(read) : credsAuthenticator(read);
}

/** Reads a secret file again at each call. If it cannot be read later, the last content is returned. */
function rereadable(path: string, check: (bytes: Uint8Array) => void): () => Uint8Array {
  const read = () => {
    const text = readFileSync(path, "utf8").trim();
    // The library needs a line end after a creds file, and none after a seed.
    const bytes = new TextEncoder().encode(text.includes("\n") ? `${text}\n` : text);
    check(bytes);
    return bytes;
  };
  let last: Uint8Array;
  try {
    last = read();
  } catch (error) {
    // The library's message is left out because it may quote a part of the file.
    const code = (error as NodeJS.ErrnoException).code;
    throw new FormationError("invalid", `The NATS credentials at ${path} cannot be used.`, {
      remedy: code ? `Reading them gave ${code}.` : "It must be what nsc or nk wrote.",
    });
  }
  return () => {
    try {
      last = read();
    } catch {
      // The file is being replaced.
    }
    return last;
  };
}

async function logStatus(connection: NatsConnection, logger: Logger): Promise<void> {
  for await (const status of connection.status()) {
    if (status.type === "disconnect")
      logger.log("warn", "NATS is gone; connecting again.", { server: status.server });
    else if (status.type === "reconnect") logger.log("info", "NATS is back.", { server: status.server });
    else if (status.type === "error")
      logger.log("warn", "NATS refused something.", { reason: status.error.message });
    else if (status.type === "slowConsumer") logger.log("warn", "NATS sends faster than we read.");
  }
}

function isRefusal(error: unknown): boolean {
  if (error instanceof AuthorizationError) return true;
  return error instanceof Error && REFUSAL_TEXT.test(error.message);
}

function refused(cause: unknown): FormationError {
  return new FormationError("unauthenticated", "NATS refused our credentials, or we its certificate.", {
    cause,
    remedy:
      "Check the credentials file, the certificates, and the user's entry in the server's configuration.",
  });
}

function unreachable(servers: string[], cause: unknown): FormationError {
  return new FormationError("unavailable", `NATS does not answer at ${servers.join(", ")}.`, {
    cause,
    remedy: "Check that nats-server runs there and that the address is right.",
  });
}
