// Deleting an instance: it is `deleted` only when nothing of it is left on this node.

import { everyItem } from "@formation-mcp/base";
import type { Id, Instance } from "@formation-mcp/contract";
import { FormationError, type OperationInput } from "@formation-mcp/contract";
import type { DeploymentPatch } from "@formation-mcp/operations";
import type { OperationHandler } from "../attempt/attempt.ts";
import type { WorkerDeps } from "../deps.ts";
import { machinesOfInstance, refuseMoved } from "../machines/machine-ids.ts";

type DeleteInput = Extract<OperationInput, { kind: "delete" }>;

/** The work of a `delete` operation. Not cancelled once begun: what is gone does not come back. */
export const deleteHandler: OperationHandler = (deps, attempt) => {
  const { instance_id } = attempt.operation.input as DeleteInput;
  return {
    async run() {
      const instance = await deps.store.instance(null, instance_id);
      if (instance.state === "deleted") return {};
      refuseMoved(deps, instance, "remove");
      attempt.step("remove", "Removing the machine and its disk.", 0.2);
      await attempt.apply({
        instances: [{ id: instance_id, patch: { state: "deleting", desired: "deleted" } }],
      });
      await removeAll(deps, instance);
      return {
        deployments: await supersedeAll(deps, instance_id),
        instances: [{ id: instance_id, patch: GONE }],
      };
    },
    async undo(ending) {
      if (ending.state === "queued") return {};
      const { state } = await deps.store.instance(null, instance_id);
      if (state === "deleting") {
        return { instances: [{ id: instance_id, patch: { state: "failed", error: ending.error } }] };
      }
      return {};
    },
    async abandon() {},
  };
};

const GONE = {
  state: "deleted",
  desired: "deleted",
  machine_id: null,
  observed: null,
  error: null,
} as const;

/**
 * Removes every machine of an instance, of whatever attempt, and its log.
 * @throws FormationError `internal` if something is left.
 */
export async function removeAll(deps: WorkerDeps, instance: Instance): Promise<void> {
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

/** An instance that is gone has no live deployment: its build may age. */
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
