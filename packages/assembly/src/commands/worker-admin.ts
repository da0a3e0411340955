// The commands `status` and `drain` of a node's operator.

import { FormationError } from "@formation-mcp/contract";
import { isAlive, sendSignal, waitFor } from "@formation-mcp/os";
import { openLayout } from "../open/layout.ts";
import { nodeId } from "../open/node.ts";
import { requireNode } from "../open/target.ts";
import { findWorker } from "../process/background-worker.ts";
import type { WorkerConfiguration } from "../settings/worker-configuration.ts";

/** How much longer than its drain time a worker may take until it is gone. */
const LEAVE_MS = 30_000;

/**
 * The node of a state directory, and the worker that runs there, or null.
 * @throws FormationError `not_found` if the state directory never had a node.
 */
export function workerStatus(configuration: WorkerConfiguration): Record<string, unknown> {
  requireNode(configuration.stateDir);
  const layout = openLayout(configuration.stateDir);
  const worker = findWorker(layout);
  return {
    node_id: nodeId(layout),
    name: configuration.node.name,
    labels: configuration.node.labels,
    state_dir: layout.root,
    worker: worker ? { state: worker.state, pid: worker.pid, version: worker.version } : null,
  };
}

/**
 * Tells the worker of the state directory to leave, and waits until it has.
 * @returns whether there was one.
 * @throws FormationError `unavailable` if it stays, `not_found` if the state directory never had a node.
 */
export async function drainWorker(configuration: WorkerConfiguration): Promise<boolean> {
  requireNode(configuration.stateDir);
  const worker = findWorker(openLayout(configuration.stateDir));
  if (!worker) return false;
  sendSignal(worker, "SIGTERM");
  await waitFor(() => !isAlive(worker), {
    timeoutMs: configuration.drainMs + LEAVE_MS,
    everyMs: 100,
    what: "the worker to leave",
  }).catch((cause: unknown) => {
    throw new FormationError("unavailable", `The worker (pid ${worker.pid}) does not leave.`, {
      cause,
      remedy: "Look at its log; a second SIGTERM makes it give back what runs.",
    });
  });
  return true;
}
