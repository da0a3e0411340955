// Opens the store, the queue and the artifacts as configured: in the state directory, or in PostgreSQL and
// NATS. The two NATS drivers share one connection. A driver's library is loaded only where that driver is
// chosen. This folder knows which driver serves each port, where a state directory's files are, and what this
// machine is as a node.

import type { Artifacts } from "@formation-mcp/artifacts";
import { FormationError, type Logger } from "@formation-mcp/contract";
import type { Store } from "@formation-mcp/operations";
import type { NatsConnection } from "@formation-mcp/os/nats";
import type { NodeIdentity } from "@formation-mcp/pack-manager";
import type { Queue } from "@formation-mcp/queue";
import type { NatsRole } from "@formation-mcp/queue/nats";
import type { Configuration } from "../settings/configuration.ts";
import type { Database, Nats, SharedServices } from "../settings/shared.ts";
import { atDatabase, atNats } from "./connect-errors.ts";
import type { Layout } from "./layout.ts";

/** The three ports that callers and workers share. */
export interface Backends {
  store: Store;
  queue: Queue;
  artifacts: Artifacts;
  /** Rejects, or takes long, while the queue can't be reached. */
  reachQueue(): Promise<unknown>;
  close(): Promise<void>;
}

export type OpenWorkerBackends = (
  layout: Layout,
  logger: Logger,
  node: Pick<NodeIdentity, "id" | "name">,
) => Promise<Backends>;

export interface OpenBackendsOptions {
  shared: SharedServices;
  layout: Layout;
  logger: Logger;
  /** The name of this process in the operators' views of PostgreSQL and NATS. */
  name: string;
  /** Servers create what is missing in NATS; workers may not. */
  role: NatsRole;
  /** Whether an import follows. Then a database with a half-finished import opens too. */
  imports?: boolean;
  /** The most that local copies of shared artifacts may take, in bytes. */
  cacheBytes?: number;
}

type Configured = Pick<Configuration, "shared" | "cacheBytes">;

/** How the HTTP server and its operator's commands open the backends. */
export function serverBackends(
  { shared, cacheBytes }: Configured,
  layout: Layout,
  logger: Logger,
): OpenBackendsOptions {
  return { shared, layout, logger, cacheBytes, name: "formation-mcp-http", role: { role: "server" } };
}

/** How a worker opens the backends: with the least rights, under the name of its node. */
export function workerBackends({ shared, cacheBytes }: Configured): OpenWorkerBackends {
  return (layout, logger, { id, name }) =>
    openBackends({
      shared,
      layout,
      logger,
      cacheBytes,
      name: `formation-mcp-worker ${name}`,
      role: { role: "worker", node: id },
    });
}

/**
 * Opens the store, the queue and the artifacts.
 * @throws FormationError `unavailable` if one can't be reached; then those already opened are closed.
 */
export async function openBackends(options: OpenBackendsOptions): Promise<Backends> {
  const { shared, layout, logger } = options;
  const opened: { close(): Promise<unknown> }[] = [];
  const keep = <T extends { close(): Promise<unknown> }>(one: T): T => {
    opened.push(one);
    return one;
  };
  const close = async () => {
    for (const one of opened.reverse()) await one.close();
  };
  try {
    const { database, nats } = shared;
    const store = keep(database ? await openPostgres(database, options) : await openSqlite(layout, logger));
    const connection = nats ? keep(await connect(nats, options)) : null;
    const artifacts = keep(
      connection && nats
        ? await openNatsArtifacts(connection, nats, options)
        : await openDirectoryArtifacts(layout, logger),
    );
    const queue = keep(
      connection && nats
        ? await openNatsQueue(connection, nats, options)
        : await openEmbeddedQueue(layout, logger),
    );
    const reachQueue = () => (connection ? connection.rtt() : queue.deadLetters(1));
    return { store, queue, artifacts, reachQueue, close };
  } catch (error) {
    await close().catch(() => {});
    throw error;
  }
}

async function openSqlite(layout: Layout, logger: Logger): Promise<Store> {
  const { openSqliteStore } = await import("@formation-mcp/operations/sqlite");
  return openSqliteStore({ path: layout.store, logger });
}

async function openEmbeddedQueue(layout: Layout, logger: Logger): Promise<Queue> {
  const driver = await import("@formation-mcp/queue/embedded");
  return driver.openEmbeddedQueue({ path: layout.queue, logger });
}

async function openDirectoryArtifacts(layout: Layout, logger: Logger): Promise<Artifacts> {
  const driver = await import("@formation-mcp/artifacts/directory");
  return driver.openDirectoryArtifacts({ path: layout.artifacts, logger });
}

async function openPostgres(database: Database, { logger, imports }: OpenBackendsOptions): Promise<Store> {
  const { isHalfImported, openPostgresStore } = await import("@formation-mcp/operations/postgres");
  const { poolSize } = database;
  const store = await atDatabase(database, (url) =>
    openPostgresStore({ url, poolSize, migrate: false, logger }),
  );
  if (imports || !(await isHalfImported(store))) return store;
  await store.close();
  throw new FormationError("unavailable", "An import into this database was not finished.", {
    remedy: "Wait for it; if it was killed, run formation-mcp-http import once more: it begins anew.",
  });
}

async function connect(
  { servers, creds, nkey, ca, cert, key }: Nats,
  { name, role, logger }: OpenBackendsOptions,
): Promise<NatsConnection> {
  const [{ connectNats }, { inboxPrefixOf }] = await Promise.all([
    import("@formation-mcp/os/nats"),
    import("@formation-mcp/queue/nats"),
  ]);
  const tls = { ...(ca ? { ca } : {}), ...(cert ? { cert } : {}), ...(key ? { key } : {}) };
  return connectNats({
    servers,
    name,
    ...(creds ? { credentials: { kind: "creds", path: creds } } : {}),
    ...(nkey ? { credentials: { kind: "nkey", path: nkey } } : {}),
    ...(Object.keys(tls).length > 0 ? { tls } : {}),
    inboxPrefix: inboxPrefixOf(role),
    logger,
  });
}

async function openNatsQueue(
  connection: NatsConnection,
  nats: Nats,
  { role, logger }: OpenBackendsOptions,
): Promise<Queue> {
  const driver = await import("@formation-mcp/queue/nats");
  const { replicas } = nats;
  return atNats(nats, () =>
    driver.openNatsQueue({ connection, manage: role.role === "server", logger, replicas }),
  );
}

async function openNatsArtifacts(
  connection: NatsConnection,
  nats: Nats,
  { layout, role, logger, cacheBytes }: OpenBackendsOptions,
): Promise<Artifacts> {
  const driver = await import("@formation-mcp/artifacts/nats");
  return atNats(nats, () =>
    driver.openNatsArtifacts({
      connection,
      cacheDir: layout.artifactsCache,
      ...(cacheBytes === undefined ? {} : { cacheBytes }),
      replicas: nats.replicas,
      manage: role.role === "server",
      logger,
    }),
  );
}
