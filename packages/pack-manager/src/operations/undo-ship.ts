// The undo of a `ship` operation: removes its machine, and starts the machine that ran before it.

import {
  type Build,
  FormationError,
  type Id,
  type Instance,
  quietly,
  UP_STATES,
} from "@formation-mcp/contract";
import type { Changes, InstancePatch } from "@formation-mcp/operations";
import type { Attempt } from "../attempt/operation-handler.ts";
import type { UnsuccessfulOutcome } from "../attempt/outcome.ts";
import type { WorkerDeps } from "../deps.ts";
import { hasProcess, isElsewhere, machinesOfDeployment } from "../machines/machine-ids.ts";
import { observedOf } from "../machines/observed.ts";
import { boot } from "./boot.ts";
import { unfinishedBuild } from "./build.ts";
import type { InputOf } from "./operation-input.ts";

/** Removes the machines of a deployment, except the one that its instance runs as. */
export async function removeOtherMachines(
  deps: WorkerDeps,
  deployment: Id<"dep">,
  keep: string | null,
): Promise<void> {
  for (const id of await machinesOfDeployment(deps.hypervisor, deployment)) {
    if (id !== keep) await deps.hypervisor.remove(id);
  }
}

export async function undoShip(
  deps: WorkerDeps,
  attempt: Attempt,
  input: InputOf<"ship">,
  outcome: UnsuccessfulOutcome,
): Promise<Changes> {
  const now = deps.clock.now();
  const instance = await deps.store.instance(null, input.instance_id);
  await tryRemoveOtherMachines(deps, input.deployment_id, instance.machine_id);
  const build = await deps.store.build(null, input.build_id).catch(() => null);
  return {
    builds: build && isOurs(build, attempt) ? [{ id: build.id, patch: unfinishedBuild(deps, outcome) }] : [],
    deployments: [
      {
        id: input.deployment_id,
        patch:
          outcome.state === "queued"
            ? { state: "queued", machine_id: null, error: outcome.error }
            : { state: outcome.state, machine_id: null, error: outcome.error, ended_at: now },
      },
    ],
    instances: changeOf(instance.id, await restoreInstance(deps, attempt, instance, outcome)),
  };
}

/**
 * Like `removeOtherMachines`, but a machine that can't be removed and does not run is left to reconciling.
 * One that still runs is a failure: it must not run beside the next one.
 */
async function tryRemoveOtherMachines(
  deps: WorkerDeps,
  deployment: Id<"dep">,
  keep: string | null,
): Promise<void> {
  try {
    await removeOtherMachines(deps, deployment, keep);
  } catch (thrown) {
    for (const id of await machinesOfDeployment(deps.hypervisor, deployment)) {
      if (id !== keep && hasProcess(await deps.hypervisor.inspect(id))) throw thrown;
    }
    const { code, message } = FormationError.from(thrown);
    deps.logger.log("warn", `Could not remove a machine that did not become live: ${message}`, { code });
  }
}

/** No change for an empty patch: the store refuses every change of a deleted instance. */
export function changeOf(id: Id<"vm">, patch: InstancePatch): { id: Id<"vm">; patch: InstancePatch }[] {
  return Object.keys(patch).length === 0 ? [] : [{ id, patch }];
}

function isOurs(build: Build, attempt: Attempt): boolean {
  return (
    build.operation_id === attempt.operation.id && (build.state === "queued" || build.state === "building")
  );
}

/**
 * Starts the machine again that ran before; a stopped one stays stopped. The instance of a first shipment is
 * `failed`.
 */
async function restoreInstance(
  deps: WorkerDeps,
  attempt: Attempt,
  instance: Instance,
  outcome: UnsuccessfulOutcome,
): Promise<InstancePatch> {
  if (instance.state === "deleting" || instance.state === "deleted") return {};
  const { machine_id } = instance;
  if (machine_id === null) {
    // A first shipment keeps its state before a retry: no legal move leads back to `creating`.
    if (outcome.state === "queued") return {};
    return { state: "failed", error: outcome.error, observed: null };
  }
  if (isElsewhere(deps, instance) || !UP_STATES.includes(instance.state))
    return outcome.state === "queued" ? {} : keepStopped(instance);
  const found = await deps.hypervisor.inspect(machine_id);
  if (instance.desired === "deleted") return found.state === "running" ? {} : { state: "stopped" };
  if (found.state === "running" && instance.state === "running") return {};
  if (found.state === "paused") return instance.state === "paused" ? {} : { state: instance.state };
  try {
    attempt.step("roll back", "Starting again what ran before.");
    const status = await boot(deps, {
      instanceId: instance.id,
      machineId: machine_id,
      signal: attempt.lost,
      timeoutMs: deps.settings.bootMs,
      onStep: (_step, message) => attempt.step("roll back", message),
    });
    return {
      desired: "running",
      state: "running",
      observed: observedOf(status, deps.clock.now()),
      error: null,
    };
  } catch (thrown) {
    const error = FormationError.from(thrown);
    await quietly(deps.logger, "stop what could not be started again", () =>
      deps.hypervisor.stop(machine_id, { timeoutMs: deps.settings.stopMs }),
    );
    return {
      state: "failed",
      error: {
        ...error.toRecord(),
        message: `What ran before could not be started again: ${error.message}`,
      },
    };
  }
}

/** An instance that did not run keeps its state; a shipment that failed must not make it start. */
function keepStopped(instance: Instance): InstancePatch {
  return instance.state === "stopped" && instance.desired === "running" ? { desired: "stopped" } : {};
}
