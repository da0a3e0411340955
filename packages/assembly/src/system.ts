// The system as a caller's process sees it: store, queue, artifacts and the one call over them, opened when first needed.

import type { Principal } from "@formation-mcp/auth";
import { type Logger, silentLogger } from "@formation-mcp/contract";
import type { CallHooks, Control } from "@formation-mcp/control";
import { toolGate } from "@formation-mcp/control/authorize";
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
  const layout = openLayout(configuration.stateDir);
  const [{ createControl }, { settleVersions, workerProcess }] = await Promise.all([
    import("@formation-mcp/control"),
    import("./worker-process.ts"),
  ]);
  if (program) await settleVersions(layout, program);
  const records = await openRecords(layout, logger);
  const worker = program ? workerProcess(configuration, layout, program) : null;
  const control = createControl({
    ...records,
    logger,
    contextDirs: configuration.allowDirs,
    ownDirs: [layout.root],
    buildNeeds: { vcpus: 1, memory_mb: configuration.build.memoryMb, disk_gb: 1 },
    ...(worker ? { ensureWorker: () => worker.ensure() } : {}),
  });
  return { control, close: () => closeAll(records) };
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

/** The three ports that callers and workers share. */
export async function openRecords(layout: Layout, logger: Logger) {
  const [{ openSqliteStore }, { openEmbeddedQueue }, { openDirectoryArtifacts }] = await Promise.all([
    import("@formation-mcp/operations/sqlite"),
    import("@formation-mcp/queue/embedded"),
    import("@formation-mcp/artifacts/directory"),
  ]);
  const store = await openSqliteStore({ path: layout.store, logger });
  const queue = await openEmbeddedQueue({ path: layout.queue, logger });
  const artifacts = await openDirectoryArtifacts({ path: layout.artifacts, logger });
  return { store, queue, artifacts };
}

export type Records = Awaited<ReturnType<typeof openRecords>>;

export async function closeAll(records: Records): Promise<void> {
  await records.queue.close();
  await records.artifacts.close();
  await records.store.close();
}
