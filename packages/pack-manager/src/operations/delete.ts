// The `delete` operation: an instance is `deleted` only when nothing of it is left on this node.

import { everyItem } from "@formation-mcp/base";
import type { Id, Instance } from "@formation-mcp/contract";
import { FormationError } from "@formation-mcp/contract";
import type { DeploymentPatch } from "@formation-mcp/operations";
import type { OperationHandler } from "../attempt/operation-handler.ts";
import type { WorkerDeps } from "../deps.ts";
import { machinesOfInstance, refuseMoved } from "../machines/machine-ids.ts";
import type { InputOf } from "./operation-input.ts";

/** Ignores a cancel once it has begun: what is removed can't be restored. */
export const deleteHandler: OperationHandler = (deps, attempt) => {
  const { instance_id } = attempt.operation.input as InputOf<"delete">;
  return {
    async run() {
      const instance = await deps.store.instance(null, instance_id);
      if (instance.state === "deleted") return {};
      refuseMoved(deps, instance, "remove");
      attempt.step("remove", "Removing the machine and its disk.", 0.2);
      await attempt.apply({
        instances: [{ id: instance_id, patch: { state: "deleting", desired: "deleted" } }],
      });
      await removeInstance(deps, instance);
      return {
        deployments: await supersedeAll(deps, instance_id),
        instances: [{ id: instance_id, patch: DELETED_PATCH }],
      };
    },
    async undo(outcome) {
      if (outcome.state === "queued") return {};
      const { state } = await deps.store.instance(null, instance_id);
      if (state === "deleting") {
        return { instances: [{ id: instance_id, patch: { state: "failed", error: outcome.error } }] };
      }
      return {};
    },
    async abandon() {},
  };
};

const DELETED_PATCH = {
  state: "deleted",
  desired: "deleted",
  machine_id: null,
  observed: null,
  error: null,
} as const;

/**
 * Removes the machines of an instance from all attempts, and its log.
 * @throws FormationError `internal` if something is left.
 */
export async function removeInstance(deps: WorkerDeps, instance: Instance): Promise<void> {
  for (const id of await machinesOfInstance(deps, instance)) await deps.hypervisor.remove(id);
  await deps.logs.remove(instance.id);
  const left = await machinesOfInstance(deps, instance);
  if (left.length > 0) {
    throw new FormationError("internal", `${left.length} of the instance's machines could not be removed.`, {
      step: "remove",
      remedy: "Try again; if it happens again, look at the worker's log.",
    });
  }
}

/** A deleted instance has no live deployment, so that its build may be removed when it is unused for long. */
async function supersedeAll(
  deps: WorkerDeps,
  instanceId: Id<"vm">,
): Promise<{ id: Id<"dep">; patch: DeploymentPatch }[]> {
  const changes: { id: Id<"dep">; patch: DeploymentPatch }[] = [];
  const deployments = everyItem((cursor) =>
    deps.store.deployments({ owner: null, instance_id: instanceId, limit: 50, cursor }),
  );
  for await (const deployment of deployments) {
    if (deployment.state !== "live") continue;
    changes.push({ id: deployment.id, patch: { state: "superseded", ended_at: deps.clock.now() } });
  }
  return changes;
}
