// operation_get, operation_list and operation_cancel: how a long action goes, also after its operation expired.

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
  reader,
  seesOperation,
  whose,
} from "../access/ownership.ts";
import type { Deps, Handler } from "../deps.ts";
import { errorLog, errorView } from "../results/errors.ts";
import { aboutInstance, afterBuild, followUp } from "../results/next-steps.ts";
import { page } from "../results/pages.ts";
import { iso, isoOrNull, urlsOf } from "../results/views.ts";
import { progressOf } from "../submit/progress.ts";
import { announce } from "../submit/submit.ts";
import { waitForEnd } from "../submit/wait.ts";

type Told = ToolOutput<"operation_get">;

/** The lasting record that an operation is about. */
type Subject =
  | { kind: "build"; build: Build }
  | { kind: "instance"; instance: Instance; deployment?: Deployment };

export const operationGet: Handler<"operation_get"> = async (deps, { principal, input, hooks }) => {
  const found = await resolve(deps, principal, input.id);
  if (!found.operation) return lasting(deps, found.subject);
  const operation = await waitForEnd(deps, found.operation, input.wait_seconds, hooks);
  const subject = await subjectOf(deps, operation);
  return told(deps, operation, subject);
};

interface Resolved {
  operation: Operation | null;
  subject: Subject;
}

/** @throws FormationError `invalid` for what is no id of ours, `not_found` for what is nobody's or somebody else's. */
async function resolve(deps: Deps, principal: Principal, id: string): Promise<Resolved> {
  switch (idKind(id)) {
    case "op": {
      const operation = await findOperation(deps, principal, id, "id");
      return { operation, subject: await subjectOf(deps, operation) };
    }
    case "bld": {
      const build = await findBuild(deps, principal, id, "id");
      return { operation: await receipt(deps, build), subject: { kind: "build", build } };
    }
    case "dep": {
      const { deployment, instance } = await findDeployment(deps, principal, id as Id<"dep">);
      return {
        operation: await receipt(deps, deployment),
        subject: { kind: "instance", instance, deployment },
      };
    }
    case "vm": {
      const instance = await findInstance(deps, principal, id, "id");
      return {
        operation: await deps.store.operationFor(instance.id),
        subject: { kind: "instance", instance },
      };
    }
    default:
      throw new FormationError("invalid", `id: ${JSON.stringify(id)} is no id of ours.`, {
        field: "id",
        remedy: "Give an id that begins with op_, bld_, dep_ or vm_, as a tool returned it.",
      });
  }
}

/** The operation that made a record, while it is kept. */
async function receipt(deps: Deps, record: Build | Deployment): Promise<Operation | null> {
  return deps.store.operation(record.owner, record.operation_id).catch((error) => {
    if (error instanceof FormationError && error.code === "not_found") return null;
    throw error;
  });
}

async function subjectOf(deps: Deps, { owner, input }: Operation): Promise<Subject> {
  if (input.kind === "build") return { kind: "build", build: await deps.store.build(owner, input.build_id) };
  const instance = await deps.store.instance(owner, input.instance_id);
  if (input.kind !== "ship") return { kind: "instance", instance };
  return { kind: "instance", instance, deployment: await deps.store.deployment(owner, input.deployment_id) };
}

async function told(deps: Deps, operation: Operation, subject: Subject): Promise<Told> {
  const done = hasEnded(operation);
  return {
    operation_id: operation.id,
    tool: operation.tool,
    state: operation.state,
    done,
    ...aboutSubject(deps, subject),
    ...(await progressOf(deps, operation)),
    ...(operation.error && done ? { error: errorView(operation.error) } : {}),
    cancel_requested: operation.cancel_requested_at !== null,
    created_at: iso(operation.created_at),
    ended_at: isoOrNull(operation.ended_at),
    ...(done ? errorLog(operation.error, nameOf(subject), deps.random) : {}),
    next: done ? afterwards(subject) : followUp(operation),
  };
}

/** What is known once the operation expired: its lasting record says how it ended. */
function lasting(deps: Deps, subject: Subject): Told {
  const record = subject.kind === "build" ? subject.build : (subject.deployment ?? subject.instance);
  const error: ErrorRecord | null = record.error;
  const { state } = record;
  return {
    operation_id: null,
    tool: null,
    state: state === "failed" || state === "cancelled" ? state : "completed",
    done: true,
    ...aboutSubject(deps, subject),
    ...(error ? { error: errorView(error) } : {}),
    cancel_requested: false,
    created_at: iso(record.created_at),
    ended_at: null,
    ...errorLog(error, nameOf(subject), deps.random),
    next: afterwards(subject),
  };
}

function aboutSubject(deps: Deps, subject: Subject): Pick<Told, "record" | "urls"> {
  if (subject.kind === "build") {
    const { id, name, state } = subject.build;
    return { record: { id, name, state }, urls: [] };
  }
  const { instance } = subject;
  return {
    record: { id: instance.id, name: instance.name, state: instance.state },
    urls: urlsOf(instance, deps),
  };
}

function nameOf(subject: Subject): string {
  return subject.kind === "build" ? "this build" : `the VM ${subject.instance.name}`;
}

function afterwards(subject: Subject): string {
  return subject.kind === "build" ? afterBuild(subject.build) : aboutInstance(subject.instance, null);
}

export const operationList: Handler<"operation_list"> = async (deps, { principal, input }) => {
  const target = input.target === undefined ? undefined : targetId(input.target);
  const { items, cursor } = await page({
    input,
    query: (limit, cursor) =>
      deps.store.operations({
        owner: reader(principal),
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
      ...whose(principal, operation),
    }),
  });
  return { operations: items, cursor };
};

/** @throws FormationError `invalid` */
function targetId(text: string): Id {
  const kind = idKind(text);
  return parseId(kind === "vm" ? "vm" : "bld", text, "target");
}

export const operationCancel: Handler<"operation_cancel"> = async (deps, { principal, input }) => {
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
