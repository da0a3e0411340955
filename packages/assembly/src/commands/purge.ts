// Removes a state directory for good: first its worker, then its machines, then its files.

import { rmSync, statSync } from "node:fs";
import { FormationError, type Logger } from "@formation-mcp/contract";
import { isAlive, sendSignal, waitFor } from "@formation-mcp/os";
import { tryLock } from "@formation-mcp/os/sqlite";
import { openLayout } from "../open/layout.ts";
import { openNodeDrivers } from "../open/node-drivers.ts";
import { findWorker } from "../process/background-worker.ts";
import type { Configuration } from "../settings/configuration.ts";

const LEAVE_MS = 120_000;

/**
 * Ends the worker, removes every machine with its files and processes, and deletes the state directory.
 * @returns the ids of the removed machines.
 * @throws FormationError `invalid` if this is no state directory, `conflict` if a worker has just started
 *   there, `unavailable` if the worker does not leave.
 */
export async function purge(configuration: Configuration, logger: Logger): Promise<string[]> {
  requireStateDir(configuration.stateDir);
  const layout = openLayout(configuration.stateDir);
  const worker = findWorker(layout);
  if (worker) {
    sendSignal(worker, "SIGTERM");
    await waitFor(() => !isAlive(worker), { timeoutMs: LEAVE_MS, what: "the worker to leave" });
  }
  const removed: string[] = [];
  {
    using lock = await tryLock(layout.lock);
    if (!lock) {
      throw new FormationError("conflict", "A worker has just begun to use this state directory.", {
        remedy: "End the servers that use it, then purge again.",
      });
    }
    const { builder, hypervisor } = await openNodeDrivers(layout, configuration, logger);
    try {
      await hypervisor.recover();
      for (const { id } of await hypervisor.list()) {
        await hypervisor.remove(id);
        removed.push(id);
      }
      await builder.destroy();
    } finally {
      await hypervisor.close();
    }
  }
  rmSync(layout.root, { recursive: true, force: true });
  return removed;
}

/** A mistyped option must not delete another directory. */
function requireStateDir(stateDir: string): void {
  try {
    if (statSync(`${stateDir}/worker.lock`).isFile()) return;
  } catch {
    // Reported below.
  }
  throw new FormationError(
    "invalid",
    `${stateDir} is no state directory of formation-mcp; nothing was removed.`,
    {
      remedy: "Give the directory that `formation-mcp doctor` names.",
      field: "state-dir",
    },
  );
}
