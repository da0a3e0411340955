// Taking a shipment back: its machine goes, and what ran under the name before runs again.

import {
  type Build,
  FormationError,
  type Id,
  type Instance,
  quietly,
  UP_STATES,
} from "@formation-mcp/contract";
import type { Changes, InstancePatch } from "@formation-mcp/operations";
import type { Attempt } from "../attempt/attempt.ts";
import type { UnsuccessfulOutcome } from "../attempt/outcome.ts";
import type { WorkerDeps } from "../deps.ts";
import { hasProcess, isElsewhere, machinesOfDeployment } from "../machines/machine-ids.ts";
import { observedOf } from "../machines/observed.ts";
import { boot } from "./boot.ts";
import { unbuilt } from "./build.ts";
import type { ShipInput } from "./ship.ts";

/** Removes every machine of a deployment but the one that its instance runs as. */
export async function clearDeployment(
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
  input: ShipInput,
  ending: UnsuccessfulOutcome,
): Promise<Changes> {
  const now = deps.clock.now();
  const instance = await deps.store.instance(null, input.instance_id);
  await clearRest(deps, input.deployment_id, instance.machine_id);
  const build = await deps.store.build(null, input.build_id).catch(() => null);
  return {
    builds: build && isOurs(build, attempt) ? [{ id: build.id, patch: unbuilt(deps, ending) }] : [],
    deployments: [
      {
        id: input.deployment_id,
        patch:
          ending.state === "queued"
            ? { state: "queued", machine_id: null, error: ending.error }
            : { state: ending.state, machine_id: null, error: ending.error, ended_at: now },
      },
    ],
    instances: changeOf(instance.id, await putBack(deps, attempt, instance, ending)),
  };
}

/** What cannot be removed is reconciling's to remove, but what still runs must not run beside what comes after this. */
async function clearRest(deps: WorkerDeps, deployment: Id<"dep">, keep: string | null): Promise<void> {
  try {
    await clearDeployment(deps, deployment, keep);
  } catch (thrown) {
    for (const id of await machinesOfDeployment(deps.hypervisor, deployment)) {
      if (id !== keep && hasProcess(await deps.hypervisor.inspect(id))) throw thrown;
    }
    const { code, message } = FormationError.from(thrown);
    deps.logger.log("warn", `Could not remove a machine that did not become live: ${message}`, { code });
  }
}

/** A deleted instance takes no change, not even an empty one. */
export function changeOf(id: Id<"vm">, patch: InstancePatch): { id: Id<"vm">; patch: InstancePatch }[] {
  return Object.keys(patch).length === 0 ? [] : [{ id, patch }];
}

function isOurs(build: Build, attempt: Attempt): boolean {
  return (
    build.operation_id === attempt.operation.id && (build.state === "queued" || build.state === "building")
  );
}

/** What the instance becomes: what ran before runs again, what was stopped stays so, a first shipment is `failed`. */
async function putBack(
  deps: WorkerDeps,
  attempt: Attempt,
  instance: Instance,
  ending: UnsuccessfulOutcome,
): Promise<InstancePatch> {
  if (instance.state === "deleting" || instance.state === "deleted") return {};
  const { machine_id } = instance;
  if (machine_id === null) {
    // Before a retry a first shipment goes on as it is: nothing leads back to `creating`.
    if (ending.state === "queued") return {};
    return { state: "failed", error: ending.error, observed: null };
  }
  if (isElsewhere(deps, instance) || !UP_STATES.includes(instance.state))
    return ending.state === "queued" ? {} : stayed(instance);
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

/** What was not running keeps its state, and is not wanted running because of a shipment that came to nothing. */
function stayed(instance: Instance): InstancePatch {
  return instance.state === "stopped" && instance.desired === "running" ? { desired: "stopped" } : {};
}
