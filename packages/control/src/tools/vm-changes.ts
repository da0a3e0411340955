// vm_control and vm_delete: change the desired state of an instance and wake its node to carry it out.

import {
  type ControlAction,
  controlSubject,
  FormationError,
  hasEnded,
  type Id,
  type Instance,
  type InstanceDesire,
  type InstanceState,
  idKind,
  isHeard,
  LIMITS,
  newId,
  type Operation,
  SUBJECTS,
} from "@formation-mcp/contract";
import type { Submission } from "@formation-mcp/operations";
import type { ToolOutput } from "@formation-mcp/tools";
import { findInstance, ownerOfInstance } from "../access/ownership.ts";
import type { ControlDeps, ToolHandler } from "../deps.ts";
import { afterChange } from "../results/next-steps.ts";
import { progressView, urlsOf } from "../results/views.ts";
import { deadline, startOperation } from "../submit/submit.ts";

/** A change that its node does not take within this time is given up. */
const CHANGE_QUEUED_MS = 3_600_000;

interface ActionRule {
  desired: InstanceDesire;
  /** The states in which the action is legal; they include the state that it leads to. */
  from: readonly InstanceState[];
}

const ACTION_RULES: Record<ControlAction, ActionRule> = {
  start: { desired: "running", from: ["stopped", "failed", "lost", "starting", "running"] },
  stop: {
    desired: "stopped",
    from: ["starting", "running", "pausing", "paused", "stopping", "stopped", "failed", "lost"],
  },
  restart: { desired: "running", from: ["starting", "running", "paused", "stopped", "failed", "lost"] },
  pause: { desired: "paused", from: ["running", "pausing", "paused"] },
  resume: { desired: "running", from: ["pausing", "paused", "running"] },
};

export const vmControl: ToolHandler<"vm_control"> = async (deps, { principal, input, hooks }) => {
  const owner = await ownerOfInstance(deps, principal, input.instance);
  const call = { principal, owner, tool: "vm_control", input, hooks };
  const operation = await startOperation(deps, call, async () => {
    const instance = await findInstance(deps, principal, input.instance);
    const node = requireLegal(instance, input.action);
    const { desired } = ACTION_RULES[input.action];
    if (desired === "running") await refuseDrained(deps, node);
    return changeSubmission(deps, instance, {
      desired,
      node,
      input: { kind: "control", instance_id: instance.id, action: input.action },
      tool: "vm_control",
    });
  });
  return changeResult(deps, await instanceOf(deps, operation), operation);
};

export const vmDelete: ToolHandler<"vm_delete"> = async (deps, { principal, input, hooks }) => {
  const owner = await ownerOfInstance(deps, principal, input.instance);
  const call = { principal, owner, tool: "vm_delete", input, hooks };
  if (idKind(input.instance) === "vm") {
    const gone = await findInstance(deps, principal, input.instance);
    if (gone.state === "deleted" && gone.name === input.confirm) return changeResult(deps, gone, null);
  }
  const operation = await startOperation(deps, call, async () => {
    const instance = await findInstance(deps, principal, input.instance);
    if (input.confirm !== instance.name) {
      throw new FormationError("invalid", "confirm is not the name of the instance; nothing was deleted.", {
        field: "confirm",
        remedy: "Ask the user which VM is meant, and give exactly its name as confirm.",
      });
    }
    const running = await unfinishedDelete(deps, instance);
    if (running) return { joined: running };
    return changeSubmission(deps, instance, {
      desired: "deleted",
      node: await machineNode(deps, instance),
      input: { kind: "delete", instance_id: instance.id },
      tool: "vm_delete",
    });
  });
  return changeResult(deps, await instanceOf(deps, operation), operation);
};

async function instanceOf(deps: ControlDeps, { owner, input }: Operation): Promise<Instance> {
  if (input.kind === "build") throw new FormationError("internal", "The operation is about no instance.");
  return deps.store.instance(owner, input.instance_id);
}

/**
 * Returns the node of the instance if the action is legal now.
 * @throws FormationError `conflict` saying which actions are possible.
 */
function requireLegal(instance: Instance, action: ControlAction): NonNullable<Instance["node_id"]> {
  const { name, state, node_id } = instance;
  const refuse = (message: string, remedy: string): never => {
    throw new FormationError("conflict", message, { field: "action", remedy });
  };
  if (instance.desired === "deleted" || state === "deleted") {
    return refuse(`The instance ${name} is being deleted.`, "Make a new one with pack_ship or vm_create.");
  }
  if (node_id === null && instance.deployment_id !== null) {
    return refuse(
      `The instance ${name} has no machine: the node that it was on was removed.`,
      "Ship a build to it with replace: true, or delete it.",
    );
  }
  if (node_id === null || instance.deployment_id === null) {
    return state === "failed"
      ? refuse(
          `The instance ${name} has never run: its first deployment failed.`,
          "Call vm_status to see why, then pack_ship a build to it with replace: true.",
        )
      : refuse(
          `The instance ${name} is still being made.`,
          `Call operation_get with id ${instance.id} until done is true, then again.`,
        );
  }
  if (!ACTION_RULES[action].from.includes(state)) {
    const fits = (Object.keys(ACTION_RULES) as ControlAction[]).filter((other) =>
      ACTION_RULES[other].from.includes(state),
    );
    return refuse(
      `The instance ${name} is ${state}: it can't ${action}.`,
      fits.length > 0 ? `Possible now: ${fits.join(", ")}.` : "Call vm_status again in a few seconds.",
    );
  }
  return node_id;
}

/**
 * The node that must run a delete: the one with the machine; null if no node has anything of the instance, so
 * that any worker may run it.
 */
async function machineNode(
  { store, clock }: ControlDeps,
  { node_id, machine_id }: Instance,
): Promise<Id<"node"> | null> {
  if (node_id === null || machine_id !== null) return node_id;
  const node = await store.node(node_id);
  return node && isHeard(node, clock.now()) ? node_id : null;
}

/** @throws FormationError `conflict` */
async function refuseDrained({ store }: ControlDeps, id: Id<"node">): Promise<void> {
  const node = await store.node(id);
  if (!node || node.drain === null) return;
  throw new FormationError("conflict", `Its node ${node.name} is being emptied, by the operator's wish.`, {
    field: "action",
    remedy:
      "Ship its build to another instance_name; or, once it is stopped, to this one with replace: true and a target_node.",
  });
}

function changeSubmission(
  deps: ControlDeps,
  instance: Instance,
  change: Pick<Submission["operation"], "input" | "tool"> & {
    desired: InstanceDesire;
    node: Id<"node"> | null;
  },
): Submission {
  const { desired, node, ...operation } = change;
  // A lost instance may come back late, and then its delete must still be queued.
  const queuedMs = instance.state === "lost" && desired === "deleted" ? LIMITS.queuedMs : CHANGE_QUEUED_MS;
  return {
    operation: {
      ...operation,
      id: newId("op", deps.clock, deps.random),
      owner: instance.owner,
      target_id: instance.id,
      // No node has taken the instance yet: any worker may end it.
      subject: node === null ? SUBJECTS.ship : controlSubject(node),
      node_id: node,
      deadline_at: deadline(deps, LIMITS.bootMs, queuedMs),
    },
    desire: { instance_id: instance.id, version: instance.version, desired },
    ...(desired === "deleted" ? { cancelOthers: true } : {}),
  };
}

async function unfinishedDelete(deps: ControlDeps, instance: Instance): Promise<Operation | null> {
  if (instance.desired !== "deleted") return null;
  const newest = await deps.store.operationFor(instance.id);
  return newest && newest.input.kind === "delete" && !hasEnded(newest) ? newest : null;
}

function changeResult(
  deps: ControlDeps,
  instance: Instance,
  operation: Operation | null,
): ToolOutput<"vm_control"> {
  const done = operation === null || hasEnded(operation);
  return {
    ...(operation ? { operation_id: operation.id } : {}),
    instance_id: instance.id,
    instance_name: instance.name,
    state: instance.state,
    done,
    urls: urlsOf(instance, deps),
    ...(done ? {} : progressView(operation.progress)),
    next: afterChange(instance, operation),
  };
}
