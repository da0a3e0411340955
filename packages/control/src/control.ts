// The one call behind every door (HTTP, MCP, stdio): finds the tool, checks the scope and the input, calls
// the handler, and records the call in the audit log.

import { randomBytes } from "node:crypto";
import type { Artifacts } from "@formation-mcp/artifacts";
import type { Principal } from "@formation-mcp/auth";
import { type Clock, FormationError, LIMITS, type Logger, silentLogger } from "@formation-mcp/contract";
import type { Resources } from "@formation-mcp/formfile";
import type { Store } from "@formation-mcp/operations";
import type { Queue } from "@formation-mcp/queue";
import { findTool, type ToolName } from "@formation-mcp/tools";
import type { Quotas } from "./access/quotas.ts";
import type { Audit } from "./audit/audit.ts";
import { type CallRecorder, createRecorder } from "./audit/call-recorder.ts";
import { createToolGate, type ToolBounds } from "./authorize.ts";
import type { ControlDeps, ToolHandler } from "./deps.ts";
import { nodeList } from "./fleet/nodes.ts";
import { parseInput } from "./input.ts";
import type { CallHooks, Control } from "./port.ts";
import { presentable } from "./results/errors.ts";
import { vmLogs } from "./results/logs.ts";
import { buildGet, buildList, packBuild } from "./tools/builds.ts";
import { vmList, vmStatus } from "./tools/instances.ts";
import { operationCancel, operationGet, operationList } from "./tools/operations.ts";
import { packShip, vmCreate } from "./tools/ships.ts";
import { vmControl, vmDelete } from "./tools/vm-changes.ts";

export interface ControlOptions extends ToolBounds {
  store: Store;
  queue: Queue;
  artifacts: Artifacts;
  /** Default: the store's. */
  clock?: Clock;
  logger?: Logger;
  /** Called at every submission, to make sure that a worker runs. What it throws ends the call. */
  ensureWorker?: () => Promise<void>;
  /** Directories below which a local caller may name a `context_dir`; none by default. */
  contextDirs?: readonly string[];
  /** Directories of the program itself: a context can neither come from them nor contain them. */
  ownDirs?: readonly string[];
  /**
   * The host name or address that callers use for this machine: for URLs of VMs whose ports are bound to
   * every address.
   */
  knownAs?: string;
  /** The resources that a node must have free to take a build, which are also the limits of the build. */
  buildNeeds?: Resources;
  random?: (bytes: number) => Uint8Array;
  /** Where every call and every refusal is recorded; nowhere by default. */
  audit?: Audit;
  /** The quotas of the owners; without it there are no limits. */
  quotas?: Quotas;
}

const HANDLERS: { [N in ToolName]: ToolHandler<N> } = {
  pack_build: packBuild,
  pack_ship: packShip,
  build_list: buildList,
  build_get: buildGet,
  vm_create: vmCreate,
  vm_list: vmList,
  vm_status: vmStatus,
  vm_control: vmControl,
  vm_delete: vmDelete,
  vm_logs: vmLogs,
  operation_get: operationGet,
  operation_list: operationList,
  operation_cancel: operationCancel,
  node_list: nodeList,
};

/**
 * Wires the tools to a store, a queue and artifacts. It holds no state: any number of controls may share
 * them.
 */
export function createControl(options: ControlOptions): Control {
  const deps: ControlDeps = {
    store: options.store,
    queue: options.queue,
    artifacts: options.artifacts,
    clock: options.clock ?? options.store.clock,
    logger: options.logger ?? silentLogger,
    random: options.random ?? randomBytes,
    ensureWorker: options.ensureWorker ?? (async () => {}),
    contextDirs: options.contextDirs ?? [],
    ownDirs: options.ownDirs ?? [],
    knownAs: options.knownAs ?? null,
    quotas: options.quotas ?? null,
    buildNeeds: options.buildNeeds ?? { vcpus: 1, memory_mb: LIMITS.buildMemoryMb, disk_gb: 1 },
  };
  const gate = createToolGate(options);
  const perform = async (
    principal: Principal,
    name: string,
    input: unknown,
    hooks: CallHooks,
    record: CallRecorder,
  ): Promise<Record<string, unknown>> => {
    gate.require(principal, name);
    const tool = findTool(name);
    if (!tool) throw new FormationError("internal", "The gate let a tool in that is none.");
    const checked = parseInput(tool, input);
    const handler = HANDLERS[tool.name] as (
      deps: ControlDeps,
      call: { principal: Principal; input: unknown; hooks: CallHooks },
    ) => Promise<Record<string, unknown>>;
    if (tool.annotations.readOnlyHint) {
      const result = await handler(deps, { principal, input: checked, hooks });
      await record.read(checked, result);
      return result;
    }
    await record.begun(checked);
    const result = await handler(deps, { principal, input: checked, hooks });
    await record.done(checked, result);
    return result;
  };
  return {
    offers: gate.offers,
    async call(principal, tool, input, hooks = {}) {
      const record = createRecorder(options.audit, principal, tool, hooks);
      try {
        return await perform(principal, tool, input, hooks, record);
      } catch (thrown) {
        const error = presentable(FormationError.from(thrown));
        logRefusal(deps.logger, principal, tool, hooks, error);
        await record.refused(input, error);
        throw error;
      }
    },
  };
}

/**
 * Logs a refused call for the operator, and an internal error with its cause; never the input of the call.
 */
function logRefusal(
  logger: Logger,
  { owner }: Principal,
  tool: string,
  { traceId }: CallHooks,
  error: FormationError,
): void {
  const fields = {
    tool: tool.slice(0, 80),
    owner,
    code: error.code,
    ...(traceId ? { trace_id: traceId } : {}),
  };
  if (error.code === "internal")
    logger.log("error", "A call failed inside the server.", { ...fields, cause: String(error.cause) });
  else if (error.code === "forbidden")
    logger.log("warn", "A call was refused.", { ...fields, reason: error.message });
}
