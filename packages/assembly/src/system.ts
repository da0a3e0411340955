// The system as a caller's process sees it on one machine: store, queue, artifacts and the one call over them, opened when
// first needed.

import type { Artifacts } from "@formation-mcp/artifacts";
import type { Principal } from "@formation-mcp/auth";
import { FormationError, type Logger, silentLogger } from "@formation-mcp/contract";
import type { CallHooks, Control } from "@formation-mcp/control";
import { toolGate } from "@formation-mcp/control/authorize";
import type { Store } from "@formation-mcp/operations";
import type { Queue } from "@formation-mcp/queue";
import type { Configuration } from "./configuration.ts";
import { type Layout, openLayout } from "./layout.ts";
import type { Program } from "./program.ts";

export interface System {
  control: Control;
  close(): Promise<void>;
}

export interface SystemOptions {
  configuration: Configuration;
  /** The program that can run the background worker; without it nobody is started, and somebody else must work. */
  program?: Program;
  logger?: Logger;
}

/** Opens the drivers that the configuration names and wires the control over them. */
export async function openSystem(options: SystemOptions): Promise<System> {
  const { configuration, program, logger = silentLogger } = options;
  refuseShared(configuration);
  const layout = openLayout(configuration.stateDir);
  const [{ createControl }, { settleVersions, workerProcess }] = await Promise.all([
    import("@formation-mcp/control"),
    import("./worker-process.ts"),
  ]);
  if (program) await settleVersions(layout, program);
  const records = await openLocalRecords(layout, logger);
  const worker = program ? workerProcess(configuration, layout, program) : null;
  const control = createControl({
    ...records,
    logger,
    contextDirs: configuration.allowDirs,
    ownDirs: [layout.root],
    buildNeeds: { vcpus: 1, memory_mb: configuration.build.memoryMb, disk_gb: 1 },
    ...(worker ? { ensureWorker: () => worker.ensure() } : {}),
  });
  return { control, close: () => records.close() };
}

/** A system that opens itself at the first call, so that listing tools costs nothing. */
export function lazySystem(options: SystemOptions): System {
  let opened: Promise<System> | null = null;
  const open = () => {
    opened ??= openSystem(options).catch((error) => {
      opened = null; // the next call tries again
      throw error;
    });
    return opened;
  };
  return {
    control: {
      offers: toolGate().offers,
      async call(principal: Principal, tool: string, input: unknown, hooks?: CallHooks) {
        return (await open()).control.call(principal, tool, input, hooks);
      },
    },
    async close() {
      const system = await opened?.catch(() => null);
      await system?.close();
    },
  };
}

/** The three ports that callers and workers share, and what closes all of them. */
export interface Records {
  store: Store;
  queue: Queue;
  artifacts: Artifacts;
  /** Rejects, or takes long, while the queue can't be reached. */
  reachQueue(): Promise<unknown>;
  close(): Promise<void>;
}

/** Opens the drivers that keep everything in the state directory. */
export async function openLocalRecords(layout: Layout, logger: Logger): Promise<Records> {
  const [store, queue, artifacts] = [
    await openLocalStore(layout, logger),
    await openLocalQueue(layout, logger),
    await openLocalArtifacts(layout, logger),
  ];
  return {
    store,
    queue,
    artifacts,
    reachQueue: () => queue.deadLetters(1),
    async close() {
      await queue.close();
      await artifacts.close();
      await store.close();
    },
  };
}

export async function openLocalStore(layout: Layout, logger: Logger): Promise<Store> {
  const { openSqliteStore } = await import("@formation-mcp/operations/sqlite");
  return openSqliteStore({ path: layout.store, logger });
}

export async function openLocalQueue(layout: Layout, logger: Logger): Promise<Queue> {
  const { openEmbeddedQueue } = await import("@formation-mcp/queue/embedded");
  return openEmbeddedQueue({ path: layout.queue, logger });
}

export async function openLocalArtifacts(layout: Layout, logger: Logger): Promise<Artifacts> {
  const { openDirectoryArtifacts } = await import("@formation-mcp/artifacts/directory");
  return openDirectoryArtifacts({ path: layout.artifacts, logger });
}

/** @throws FormationError `invalid` where somebody set what a program of one machine has no use for. */
export function refuseShared({ sharedSettings: names }: Configuration): void {
  if (names.length === 0) return;
  throw new FormationError(
    "invalid",
    `This program keeps everything in its state directory, but ${names.join(", ")} ${names.length > 1 ? "are" : "is"} set.`,
    { remedy: "Unset it, or set FORMATION_URL to the address of the server that uses it." },
  );
}
