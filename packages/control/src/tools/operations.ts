// operation_get, operation_list and operation_cancel: the progress and the result of an operation, also after
// its record expired.

import type { Principal } from "@formation-mcp/auth";
import {
  type Build,
  type Deployment,
  type ErrorRecord,
  FormationError,
  hasEnded,
  type Id,
  type Instance,
  idKind,
  type Operation,
  parseId,
} from "@formation-mcp/contract";
import type { ToolOutput } from "@formation-mcp/tools";
import {
  findBuild,
  findDeployment,
  findInstance,
  findOperation,
  ownerField,
  ownerFilter,
  seesOperation,
} from "../access/ownership.ts";
import type { ControlDeps, ToolHandler } from "../deps.ts";
import { errorLog, errorView } from "../results/errors.ts";
import { aboutInstance, afterBuild, followUp } from "../results/next-steps.ts";
import { page } from "../results/pages.ts";
import { iso, isoOrNull, urlsOf } from "../results/views.ts";
import { progressOf } from "../submit/progress.ts";
import { announce } from "../submit/submit.ts";
import { waitForEnd } from "../submit/wait.ts";

type OperationResult = ToolOutput<"operation_get">;

/** The build or instance that an operation is about. It outlives the operation. */
type OperationTarget =
  | { kind: "build"; build: Build }
  | { kind: "instance"; instance: Instance; deployment?: Deployment };

export const operationGet: ToolHandler<"operation_get"> = async (deps, { principal, input, hooks }) => {
  const found = await resolveId(deps, principal, input.id);
  if (!found.operation) return expiredResult(deps, found.target);
  const operation = await waitForEnd(deps, found.operation, input.wait_seconds, hooks);
  const target = await targetOf(deps, operation);
  return operationResult(deps, operation, target);
};

interface ResolvedId {
  operation: Operation | null;
  target: OperationTarget;
}

/**
 * Finds the operation and its target by the id of either.
 * @throws FormationError `invalid` for an id of another form, `not_found` for an unknown id and for one of
 *   another owner.
 */
async function resolveId(deps: ControlDeps, principal: Principal, id: string): Promise<ResolvedId> {
  switch (idKind(id)) {
    case "op": {
      const operation = await findOperation(deps, principal, id, "id");
      return { operation, target: await targetOf(deps, operation) };
    }
    case "bld": {
      const build = await findBuild(deps, principal, id, "id");
      return { operation: await operationThatMade(deps, build), target: { kind: "build", build } };
    }
    case "dep": {
      const { deployment, instance } = await findDeployment(deps, principal, id as Id<"dep">);
      return {
        operation: await operationThatMade(deps, deployment),
        target: { kind: "instance", instance, deployment },
      };
    }
    case "vm": {
      const instance = await findInstance(deps, principal, id, "id");
      return {
        operation: await deps.store.operationFor(instance.id),
        target: { kind: "instance", instance },
      };
    }
    default:
      throw new FormationError("invalid", `id: ${JSON.stringify(id)} is no id of ours.`, {
        field: "id",
        remedy: "Give an id that begins with op_, bld_, dep_ or vm_, as a tool returned it.",
      });
  }
}

/** The operation that made a record; null after it expired. */
async function operationThatMade(deps: ControlDeps, record: Build | Deployment): Promise<Operation | null> {
  return deps.store.operation(record.owner, record.operation_id).catch((error) => {
    if (error instanceof FormationError && error.code === "not_found") return null;
    throw error;
  });
}

async function targetOf(deps: ControlDeps, { owner, input }: Operation): Promise<OperationTarget> {
  if (input.kind === "build") return { kind: "build", build: await deps.store.build(owner, input.build_id) };
  const instance = await deps.store.instance(owner, input.instance_id);
  if (input.kind !== "ship") return { kind: "instance", instance };
  return { kind: "instance", instance, deployment: await deps.store.deployment(owner, input.deployment_id) };
}

async function operationResult(
  deps: ControlDeps,
  operation: Operation,
  target: OperationTarget,
): Promise<OperationResult> {
  const done = hasEnded(operation);
  return {
    operation_id: operation.id,
    tool: operation.tool,
    state: operation.state,
    done,
    ...targetFields(deps, target),
    ...(await progressOf(deps, operation)),
    ...(operation.error && done ? { error: errorView(operation.error) } : {}),
    cancel_requested: operation.cancel_requested_at !== null,
    created_at: iso(operation.created_at),
    ended_at: isoOrNull(operation.ended_at),
    ...(done ? errorLog(operation.error, nameOf(target), deps.random) : {}),
    next: done ? nextStep(target) : followUp(operation),
  };
}

/** The result after the operation expired: the state of its target says how it ended. */
function expiredResult(deps: ControlDeps, target: OperationTarget): OperationResult {
  const record = target.kind === "build" ? target.build : (target.deployment ?? target.instance);
  const error: ErrorRecord | null = record.error;
  const { state } = record;
  return {
    operation_id: null,
    tool: null,
    state: state === "failed" || state === "cancelled" ? state : "completed",
    done: true,
    ...targetFields(deps, target),
    ...(error ? { error: errorView(error) } : {}),
    cancel_requested: false,
    created_at: iso(record.created_at),
    ended_at: null,
    ...errorLog(error, nameOf(target), deps.random),
    next: nextStep(target),
  };
}

function targetFields(deps: ControlDeps, target: OperationTarget): Pick<OperationResult, "record" | "urls"> {
  if (target.kind === "build") {
    const { id, name, state } = target.build;
    return { record: { id, name, state }, urls: [] };
  }
  const { instance } = target;
  return {
    record: { id: instance.id, name: instance.name, state: instance.state },
    urls: urlsOf(instance, deps),
  };
}

function nameOf(target: OperationTarget): string {
  return target.kind === "build" ? "this build" : `the VM ${target.instance.name}`;
}

function nextStep(target: OperationTarget): string {
  return target.kind === "build" ? afterBuild(target.build) : aboutInstance(target.instance, null);
}

export const operationList: ToolHandler<"operation_list"> = async (deps, { principal, input }) => {
  const target = input.target === undefined ? undefined : targetId(input.target);
  const { items, cursor } = await page({
    input,
    query: (limit, cursor) =>
      deps.store.operations({
        owner: ownerFilter(principal),
        limit,
        cursor,
        ...(input.state ? { states: [input.state] } : {}),
        ...(target === undefined ? {} : { target }),
      }),
    sees: principal.bounds && seesOperation(deps, principal),
    view: (operation: Operation) => ({
      operation_id: operation.id,
      tool: operation.tool,
      state: operation.state,
      target_id: operation.target_id,
      created_at: iso(operation.created_at),
      ...ownerField(principal, operation),
    }),
  });
  return { operations: items, cursor };
};

/** @throws FormationError `invalid` */
function targetId(text: string): Id {
  const kind = idKind(text);
  return parseId(kind === "vm" ? "vm" : "bld", text, "target");
}

export const operationCancel: ToolHandler<"operation_cancel"> = async (deps, { principal, input }) => {
  const { owner, id } = await findOperation(deps, principal, input.operation_id);
  const operation = await deps.store.requestCancel(owner, id);
  await announce(deps, operation);
  const done = hasEnded(operation);
  return {
    operation_id: operation.id,
    state: operation.state,
    done,
    cancel_requested: operation.cancel_requested_at !== null,
    next: done
      ? `It is ${operation.state}; nothing more happens.`
      : `It is asked to stop. Call operation_get with id ${operation.id} until done is true.`,
  };
};
