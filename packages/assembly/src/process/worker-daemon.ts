// The worker as a daemon: signals, what it tells its service manager, and its health port. When it leaves,
// its operations are finished or given back, and VMs run on.

import { workerBackends } from "../open/backends.ts";
import { warnUnknownVariables } from "../settings/configuration.ts";
import type { WorkerConfiguration } from "../settings/worker-configuration.ts";
import { openHealthServer } from "./health-server.ts";
import { jsonLogger } from "./logging.ts";
import { runWorker } from "./run-worker.ts";
import { createServiceManager } from "./service-manager.ts";

/**
 * Runs the worker until SIGTERM or SIGINT. Then running operations may go on for `drainMs`, or until a second
 * signal.
 * @returns the exit code: 1 if another worker holds the state directory.
 */
export async function workerDaemon(configuration: WorkerConfiguration, version: string): Promise<number> {
  const logger = jsonLogger(configuration.logLevel);
  warnUnknownVariables(logger, configuration);
  const manager = createServiceManager(logger);
  const [leave, giveBack] = [new AbortController(), new AbortController()];
  const onSignal = (signal: NodeJS.Signals) => {
    logger.log("info", leave.signal.aborted ? "told again: giving back what runs" : "leaving", { signal });
    (leave.signal.aborted ? giveBack : leave).abort();
  };
  process.on("SIGTERM", onSignal).on("SIGINT", onSignal);
  process.on("SIGHUP", () => {});
  const health = configuration.health ? await openHealthServer(configuration.health, version, logger) : null;
  if (health) logger.log("info", "health and metrics are served", { address: health.address });
  try {
    const ran = await runWorker({
      configuration,
      logger,
      version,
      signal: leave.signal,
      giveBack: giveBack.signal,
      drainMs: configuration.drainMs,
      leaveWhenIdle: false,
      node: configuration.node,
      openBackends: workerBackends(configuration),
      ...(health ? { observe: (parts) => health.observe(parts) } : {}),
      onState(state) {
        health?.onState(state);
        void (state === "ready" ? manager.ready("working") : manager.leaving());
      },
    });
    if (!ran) logger.log("error", "a worker already runs here", { state_dir: configuration.stateDir });
    else logger.log("info", "left", {});
    return ran ? 0 : 1;
  } finally {
    manager.close();
    await health?.close();
  }
}
