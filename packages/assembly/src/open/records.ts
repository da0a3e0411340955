// Which drivers the records, the wake-ups and the artifacts have, by configuration alone: those in the state directory, or
// PostgreSQL and NATS with one connection for both of its drivers. A library loads only where its driver is chosen.

import type { Artifacts } from "@formation-mcp/artifacts";
import { FormationError, type Logger } from "@formation-mcp/contract";
import type { Store } from "@formation-mcp/operations";
import type { NatsConnection } from "@formation-mcp/os/nats";
import type { NodeIdentity } from "@formation-mcp/pack-manager";
import type { Queue } from "@formation-mcp/queue";
import type { NatsRole } from "@formation-mcp/queue/nats";
import { readConfiguration } from "../settings/configuration.ts";
import { requireShared, type SharedConfiguration } from "../settings/shared-configuration.ts";
import { atDatabase, atNats } from "./connect-errors.ts";
import type { Layout } from "./layout.ts";

/** The three ports that callers and workers share, and what closes all of them. */
export interface Records {
  store: Store;
  queue: Queue;
  artifacts: Artifacts;
  /** Rejects, or takes long, while the queue can't be reached. */
  reachQueue(): Promise<unknown>;
  close(): Promise<void>;
}

export type OpenWorkerRecords = (
  layout: Layout,
  logger: Logger,
  node: Pick<NodeIdentity, "id" | "name">,
) => Promise<Records>;

export interface OpenRecordsOptions {
  shared: SharedConfiguration;
  layout: Layout;
  logger: Logger;
  /** What the operators of PostgreSQL and NATS see this process as. */
  name: string;
  /** Servers make what is missing in NATS; workers may not. */
  role: NatsRole;
  /** Whether it is imported into: then also what a killed import left is opened. */
  imports?: boolean;
  /** What the local copies of shared artifacts may take, in bytes. */
  cacheBytes?: number;
}

/** How the HTTP server, and what an operator does beside it, opens them. */
export function serverRecords(
  { shared, cacheBytes }: { shared: SharedConfiguration; cacheBytes: number },
  layout: Layout,
  logger: Logger,
): OpenRecordsOptions {
  return { shared, layout, logger, cacheBytes, name: "formation-mcp-http", role: { role: "server" } };
}

/** How a worker opens them: with the least rights, in the name of its node. */
export function openWorkerRecords(shared: SharedConfiguration, cacheBytes: number): OpenWorkerRecords {
  return (layout, logger, { id, name }) =>
    openRecords({
      shared,
      layout,
      logger,
      cacheBytes,
      name: `formation-mcp-worker ${name}`,
      role: { role: "worker", node: id },
    });
}

/** The same for the background worker that a program starts, with the settings that it was started with. */
export function openOwnWorkerRecords(
  environment: Record<string, string | undefined> = process.env,
): OpenWorkerRecords {
  return openWorkerRecords(requireShared(environment), readConfiguration({}, environment).cacheBytes);
}

/**
 * Opens the three ports that callers and workers share.
 * @throws FormationError `unavailable` if one can't be reached; what was opened until then is closed.
 */
export async function openRecords(options: OpenRecordsOptions): Promise<Records> {
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
    const store = keep(shared.database ? await openPostgres(options) : await openLocalStore(layout, logger));
    const connection = shared.nats ? keep(await openNats(shared.nats, options)) : null;
    const artifacts = keep(
      connection ? await openSharedArtifacts(connection, options) : await openLocalArtifacts(layout, logger),
    );
    const queue = keep(
      connection ? await openSharedQueue(connection, options) : await openLocalQueue(layout, logger),
    );
    const reachQueue = () => (connection ? connection.rtt() : queue.deadLetters(1));
    return { store, queue, artifacts, reachQueue, close };
  } catch (error) {
    await close().catch(() => {});
    throw error;
  }
}

async function openLocalStore(layout: Layout, logger: Logger): Promise<Store> {
  const { openSqliteStore } = await import("@formation-mcp/operations/sqlite");
  return openSqliteStore({ path: layout.store, logger });
}

async function openLocalQueue(layout: Layout, logger: Logger): Promise<Queue> {
  const { openEmbeddedQueue } = await import("@formation-mcp/queue/embedded");
  return openEmbeddedQueue({ path: layout.queue, logger });
}

async function openLocalArtifacts(layout: Layout, logger: Logger): Promise<Artifacts> {
  const { openDirectoryArtifacts } = await import("@formation-mcp/artifacts/directory");
  return openDirectoryArtifacts({ path: layout.artifacts, logger });
}

async function openPostgres({ shared, logger, imports }: OpenRecordsOptions): Promise<Store> {
  const database = shared.database as NonNullable<SharedConfiguration["database"]>;
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

async function openNats(
  nats: NonNullable<SharedConfiguration["nats"]>,
  { name, role, logger }: OpenRecordsOptions,
): Promise<NatsConnection> {
  const [{ connectNats }, { inboxPrefixOf }] = await Promise.all([
    import("@formation-mcp/os/nats"),
    import("@formation-mcp/queue/nats"),
  ]);
  return connectNats({
    servers: nats.servers,
    name,
    ...(nats.credentials ? { credentials: nats.credentials } : {}),
    ...(nats.tls ? { tls: nats.tls } : {}),
    inboxPrefix: inboxPrefixOf(role),
    logger,
  });
}

async function openSharedQueue(connection: NatsConnection, options: OpenRecordsOptions): Promise<Queue> {
  const { openNatsQueue } = await import("@formation-mcp/queue/nats");
  const { role, logger } = options;
  const nats = options.shared.nats as NonNullable<SharedConfiguration["nats"]>;
  const { replicas } = nats;
  return atNats(nats, () => openNatsQueue({ connection, manage: role.role === "server", logger, replicas }));
}

async function openSharedArtifacts(
  connection: NatsConnection,
  { layout, role, logger, shared, cacheBytes }: OpenRecordsOptions,
): Promise<Artifacts> {
  const nats = shared.nats as NonNullable<SharedConfiguration["nats"]>;
  const { openNatsArtifacts } = await import("@formation-mcp/artifacts/nats");
  return atNats(nats, () =>
    openNatsArtifacts({
      connection,
      cacheDir: layout.artifactsCache,
      ...(cacheBytes === undefined ? {} : { cacheBytes }),
      replicas: nats.replicas,
      manage: role.role === "server",
      logger,
    }),
  );
}
