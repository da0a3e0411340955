// Copies what the machines of this node print into the logs of their instances, with one follower per
// machine. A follower goes on where the one of an earlier process of the worker ended.

import type { Logger } from "@formation-mcp/contract";
import type { Hypervisor } from "@formation-mcp/hypervisor";
import type { LogWriter } from "./log-writer.ts";

export interface LogFollowers {
  /** Follows a machine until it is removed; does nothing if it is followed already. */
  follow(machineId: string, instanceId: string): void;
  close(): Promise<void>;
}

export function createLogFollowers(hypervisor: Hypervisor, logs: LogWriter, logger: Logger): LogFollowers {
  const ending = new AbortController();
  const running = new Map<string, Promise<void>>();
  return {
    follow(machineId, instanceId) {
      if (running.has(machineId) || ending.signal.aborted) return;
      const done = hypervisor
        .follow(machineId, ending.signal, (stream, line) => logs.line(instanceId, stream, line))
        .catch((error: Error) => logger.log("warn", `Lost the log of ${machineId}: ${error.message}`))
        .finally(() => running.delete(machineId));
      running.set(machineId, done);
    },
    async close() {
      ending.abort();
      await Promise.all(running.values());
    },
  };
}
