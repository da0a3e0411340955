// vm_control and vm_delete: what the owner wants of an instance changes, and its node is woken to do it.

import {
  type ControlAction,
  controlSubject,
  FormationError,
  type Instance,
  type InstanceDesire,
  type InstanceState,
  LIMITS,
  newId,
  type Operation,
  SUBJECTS,
} from "@formation-mcp/contract";
import type { Submission } from "@formation-mcp/operations";
import type { ToolOutput } from "@formation-mcp/tools";
import type { Deps, Handler } from "./deps.ts";
import { operationError } from "./failures.ts";
import { findInstance } from "./instances.ts";
import { afterChange } from "./next-steps.ts";
import { deadline, start } from "./submitting.ts";
import { progressView, urlsOf } from "./views.ts";
import { hasEnded, waitForEnd } from "./waiting.ts";

interface Rule {
  desired: InstanceDesire;
  /** Where it makes sense, asking again for what already is included. */
  from: readonly InstanceState[];
}

const RULES: Record<ControlAction, Rule> = {
  start: { desired: "running", from: ["stopped", "failed", "lost", "starting", "running"] },
  stop: {
    desired: "stopped",
    from: ["starting", "running", "pausing", "paused", "stopping", "stopped", "failed", "lost"],
  },
  restart: { desired: "running", from: ["starting", "running", "paused", "stopped", "failed", "lost"] },
  pause: { desired: "paused", from: ["running", "pausing", "paused"] },
  resume: { desired: "running", from: ["pausing", "paused", "running"] },
};

export const vmControl: Handler<"vm_control"> = async (deps, { principal, input, hooks }) => {
  const named = await findInstance(deps, principal, input.instance);
  const { owner } = named;
  const operation = await start(deps, { owner, tool: "vm_control", input, hooks }, async () => {
    const instance = await deps.store.instance(owner, named.id);
    const node = requireLegal(instance, input.action);
    return submission(deps, instance, {
      desired: RULES[input.action].desired,
      subject: controlSubject(node),
      input: { kind: "control", instance_id: instance.id, action: input.action },
      tool: "vm_control",
    });
  });
  return changed(deps, await deps.store.instance(owner, named.id), operation);
};

export const vmDelete: Handler<"vm_delete"> = async (deps, { principal, input, hooks }) => {
  const named = await findInstance(deps, principal, input.instance);
  const { owner } = named;
  if (input.confirm !== named.name) {
    throw new FormationError("invalid", "confirm is not the name of the instance; nothing was deleted.", {
      field: "confirm",
      remedy: "Ask the user which VM is meant, and give exactly its name as confirm.",
    });
  }
  if (named.state === "deleted") return changed(deps, named, null);
  const running = await unfinishedDelete(deps, named);
  const operation = running
    ? await joined(deps, running, input.wait_seconds, hooks)
    : await start(deps, { owner, tool: "vm_delete", input, hooks }, async () => {
        const instance = await deps.store.instance(owner, named.id);
        return submission(deps, instance, {
          desired: "deleted",
          subject: instance.node_id ? controlSubject(instance.node_id) : SUBJECTS.ship,
          input: { kind: "delete", instance_id: instance.id },
          tool: "vm_delete",
        });
      });
  return changed(deps, await deps.store.instance(owner, named.id), operation);
};

/** @throws FormationError `conflict` saying which action fits. */
function requireLegal(instance: Instance, action: ControlAction): NonNullable<Instance["node_id"]> {
  const { name, state, node_id } = instance;
  const refuse = (message: string, remedy: string): never => {
    throw new FormationError("conflict", message, { field: "action", remedy });
  };
  if (instance.desired === "deleted" || state === "deleted") {
    return refuse(`The instance ${name} is being deleted.`, "Make a new one with pack_ship or vm_create.");
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
  if (!RULES[action].from.includes(state)) {
    const fits = (Object.keys(RULES) as ControlAction[]).filter((other) => RULES[other].from.includes(state));
    return refuse(
      `The instance ${name} is ${state}: it can't ${action}.`,
      fits.length > 0 ? `Possible now: ${fits.join(", ")}.` : "Call vm_status again in a few seconds.",
    );
  }
  return node_id;
}

function submission(
  deps: Deps,
  instance: Instance,
  change: Pick<Submission["operation"], "subject" | "input" | "tool"> & { desired: InstanceDesire },
): Submission {
  const { desired, ...operation } = change;
  return {
    operation: {
      ...operation,
      id: newId("op", deps.clock, deps.random),
      owner: instance.owner,
      target_id: instance.id,
      node_id: instance.node_id,
      needs: { vcpus: 0, memory_mb: 0, disk_gb: 0 },
      deadline_at: deadline(deps, LIMITS.bootMs),
    },
    desire: { instance_id: instance.id, version: instance.version, desired },
    ...(desired === "deleted" ? { cancelOthers: true } : {}),
  };
}

async function unfinishedDelete(deps: Deps, instance: Instance): Promise<Operation | null> {
  if (instance.desired !== "deleted") return null;
  const newest = await deps.store.operationFor(instance.id);
  return newest && newest.input.kind === "delete" && !hasEnded(newest) ? newest : null;
}

async function joined(
  deps: Deps,
  operation: Operation,
  seconds: number,
  hooks: Parameters<typeof waitForEnd>[3],
): Promise<Operation> {
  const ended = await waitForEnd(deps, operation, seconds, hooks);
  if (ended.state === "failed" || ended.state === "cancelled") throw operationError(ended, deps.random);
  return ended;
}

async function changed(
  _deps: Deps,
  instance: Instance,
  operation: Operation | null,
): Promise<ToolOutput<"vm_control">> {
  const done = operation === null || hasEnded(operation);
  return {
    ...(operation ? { operation_id: operation.id } : {}),
    instance_id: instance.id,
    instance_name: instance.name,
    state: instance.state,
    done,
    urls: urlsOf(instance),
    ...(done ? {} : progressView(operation.progress)),
    next: afterChange(instance, operation),
  };
}
