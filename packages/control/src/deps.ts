// What the parts of this package get passed in, and the type of a tool handler.

import type { Artifacts } from "@formation-mcp/artifacts";
import type { Principal } from "@formation-mcp/auth";
import type { Clock, Logger } from "@formation-mcp/contract";
import type { Resources } from "@formation-mcp/formfile";
import type { Store } from "@formation-mcp/operations";
import type { Queue } from "@formation-mcp/queue";
import type { ToolInput, ToolName, ToolOutput } from "@formation-mcp/tools";
import type { Quotas } from "./access/quotas.ts";
import type { CallHooks } from "./port.ts";

export interface ControlDeps {
  store: Store;
  queue: Queue;
  artifacts: Artifacts;
  clock: Clock;
  logger: Logger;
  random: (bytes: number) => Uint8Array;
  ensureWorker: () => Promise<void>;
  contextDirs: readonly string[];
  ownDirs: readonly string[];
  buildNeeds: Resources;
  /**
   * The host that replaces "every address" in URLs, as callers know this machine; null if callers are on it.
   */
  knownAs: string | null;
  quotas: Quotas | null;
}

interface ToolCall<N extends ToolName> {
  principal: Principal;
  input: ToolInput<N>;
  hooks: CallHooks;
}

export type ToolHandler<N extends ToolName> = (
  deps: ControlDeps,
  call: ToolCall<N>,
) => Promise<ToolOutput<N>>;
