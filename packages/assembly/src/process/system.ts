// The system as a local caller's process sees it: the store, the queue and the artifacts that are configured,
// and the control over them. They are opened at the first call.

import type { Principal } from "@formation-mcp/auth";
import { type Logger, silentLogger } from "@formation-mcp/contract";
import type { CallHooks, Control } from "@formation-mcp/control";
import { createToolGate } from "@formation-mcp/control/authorize";
import { openLayout } from "../open/layout.ts";
import type { Configuration } from "../settings/configuration.ts";
import { startsWorker } from "../settings/shared.ts";
import type { Program } from "./program.ts";

export interface System {
  control: Control;
  close(): Promise<void>;
}

export interface SystemOptions {
  configuration: Configuration;
  /**
   * The program that can run the background worker. Without it no worker is started, and another process must
   * work.
   */
  program?: Program;
  logger?: Logger;
}

/**
 * Opens the drivers that the configuration names and wires the control over them. With a shared database
 * every write is in its audit log, as with the HTTP servers.
 */
export async function openSystem(options: SystemOptions): Promise<System> {
  const { configuration, program, logger = silentLogger } = options;
  const [{ openAudit, createControl }, { createBackgroundWorker, retireOlderWorker }, backends] =
    await Promise.all([
      import("@formation-mcp/control"),
      import("./background-worker.ts"),
      import("../open/backends.ts"),
    ]);
  const { shared } = configuration;
  const layout = openLayout(configuration.stateDir);
  if (program) await retireOlderWorker(configuration, layout, program);
  const opened = await backends.openBackends({
    ...backends.serverBackends(configuration, layout, logger),
    name: "formation-mcp",
  });
  const audit = shared.database ? openAudit({ store: opened.store.audit, logger }) : null;
  const worker =
    program && startsWorker(configuration) ? createBackgroundWorker(configuration, layout, program) : null;
  return {
    control: createControl({
      ...opened,
      logger,
      contextDirs: configuration.allowDirs,
      ownDirs: [layout.root],
      buildNeeds: { vcpus: 1, memory_mb: configuration.build.memoryMb, disk_gb: 1 },
      ...(audit ? { audit } : {}),
      ...(worker ? { ensureWorker: () => worker.ensure() } : {}),
    }),
    async close() {
      await audit?.close();
      await opened.close();
    },
  };
}

/** A system that opens itself at the first call, so that listing tools costs nothing. */
export function lazySystem(options: SystemOptions): System {
  let opening: Promise<System> | null = null;
  const open = () => {
    opening ??= openSystem(options).catch((error) => {
      opening = null; // the next call tries again
      throw error;
    });
    return opening;
  };
  return {
    control: {
      offers: createToolGate().offers,
      async call(principal: Principal, tool: string, input: unknown, hooks?: CallHooks) {
        return (await open()).control.call(principal, tool, input, hooks);
      },
    },
    async close() {
      const system = await opening?.catch(() => null);
      await system?.close();
    },
  };
}
