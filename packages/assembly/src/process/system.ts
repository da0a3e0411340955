// The system as a local caller's process sees it: store, queue, artifacts and the one call over them, opened when first
// needed, wherever the configuration has them.

import type { Principal } from "@formation-mcp/auth";
import { type Logger, silentLogger } from "@formation-mcp/contract";
import type { CallHooks, Control } from "@formation-mcp/control";
import { toolGate } from "@formation-mcp/control/authorize";
import { openLayout } from "../open/layout.ts";
import type { Configuration } from "../settings/configuration.ts";
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

/**
 * Opens the drivers that the configuration names and wires the control over them. Over a database that is shared, what is
 * done stands in its audit log, as what is done through the HTTP servers.
 * @throws FormationError `invalid` if the settings of what is shared are wrong.
 */
export async function openSystem(options: SystemOptions): Promise<System> {
  const { configuration, program, logger = silentLogger } = options;
  const [control, workers, kept, settings] = await Promise.all([
    import("@formation-mcp/control"),
    import("./background-worker.ts"),
    import("../open/records.ts"),
    import("../settings/shared-configuration.ts"),
  ]);
  const shared = settings.requireShared(configuration.sharedSettings);
  const layout = openLayout(configuration.stateDir);
  if (program) await workers.settleVersions(configuration, layout, program);
  const records = await kept.openRecords({
    ...kept.serverRecords({ ...configuration, shared }, layout, logger),
    name: "formation-mcp",
  });
  const audit = shared.database ? control.createAudit({ store: records.store.audit, logger }) : null;
  const worker =
    program && settings.startsWorker(configuration, shared)
      ? workers.workerProcess(configuration, layout, program)
      : null;
  return {
    control: control.createControl({
      ...records,
      logger,
      contextDirs: configuration.allowDirs,
      ownDirs: [layout.root],
      buildNeeds: { vcpus: 1, memory_mb: configuration.build.memoryMb, disk_gb: 1 },
      ...(audit ? { audit } : {}),
      ...(worker ? { ensureWorker: () => worker.ensure() } : {}),
    }),
    async close() {
      await audit?.close();
      await records.close();
    },
  };
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
