// The `control` operation: starts, stops, restarts, pauses and resumes the machine of an instance. An action
// is idempotent: it succeeds if the machine is in the wanted state already.

import {
  type ControlAction,
  DRAIN_TOOL,
  FormationError,
  type Instance,
  type InstanceDesire,
  type InstanceState,
  quietly,
} from "@formation-mcp/contract";
import type { MachineStatus } from "@formation-mcp/hypervisor";
import type { InstancePatch } from "@formation-mcp/operations";
import type { Attempt, OperationHandler } from "../attempt/operation-handler.ts";
import type { UnsuccessfulOutcome } from "../attempt/outcome.ts";
import type { WorkerDeps } from "../deps.ts";
import { hasProcess, isElsewhere, refuseMoved } from "../machines/machine-ids.ts";
import { observedOf } from "../machines/observed.ts";
import { statePath } from "../machines/state-path.ts";
import { boot } from "./boot.ts";
import type { InputOf } from "./operation-input.ts";
import { changeOf } from "./undo-ship.ts";

const DESIRED: Record<ControlAction, InstanceDesire> = {
  start: "running",
  restart: "running",
  resume: "running",
  stop: "stopped",
  pause: "paused",
};

export const controlHandler: OperationHandler = (deps, attempt) => {
  const { instance_id, action } = attempt.operation.input as InputOf<"control">;
  return {
    async run() {
      const instance = await deps.store.instance(null, instance_id);
      const machineId = machineOf(deps, instance, action);
      const status = await ACTIONS[action]({ deps, attempt, instance, machineId });
      const state = action === "stop" ? "stopped" : action === "pause" ? "paused" : "running";
      await moveNextTo(attempt, (await deps.store.instance(null, instance_id)).state, state, instance_id);
      const patch: InstancePatch = {
        state,
        observed: observedOf(status, deps.clock.now()),
        error: null,
        ...(instance.desired === "deleted" || attempt.operation.tool === DRAIN_TOOL
          ? {}
          : { desired: DESIRED[action] }),
      };
      return { instances: [{ id: instance_id, patch }] };
    },
    async undo(outcome) {
      const instance = await deps.store.instance(null, instance_id);
      return { instances: changeOf(instance_id, await realPatch(deps, attempt, instance, outcome)) };
    },
    async abandon() {
      // Nothing was made. Reconciling stops the machine if its record says so.
    },
  };
};

interface Action {
  deps: WorkerDeps;
  attempt: Attempt;
  instance: Instance;
  machineId: string;
}

function machineOf(deps: WorkerDeps, instance: Instance, action: ControlAction): string {
  refuseMoved(deps, instance, action);
  if (instance.state === "deleting" || instance.state === "deleted") {
    throw new FormationError("conflict", `"${instance.name}" is ${instance.state}.`, { step: action });
  }
  if (instance.machine_id !== null) return instance.machine_id;
  throw new FormationError("conflict", `"${instance.name}" has no machine: it never became live.`, {
    step: action,
    remedy: "Ship a build to this name with replace: true, or delete it.",
  });
}

const ACTIONS: Record<ControlAction, (given: Action) => Promise<MachineStatus>> = {
  async start(given) {
    const status = await given.deps.hypervisor.inspect(given.machineId);
    if (status.state === "paused") return ACTIONS.resume(given);
    return startMachine(given, status);
  },
  async stop(given) {
    return stopMachine(given);
  },
  async restart(given) {
    const stopped = await stopMachine(given);
    given.attempt.signal.throwIfAborted();
    return startMachine(given, stopped);
  },
  async pause(given) {
    const { deps, machineId } = given;
    const status = await deps.hypervisor.inspect(machineId);
    if (status.state === "paused") return status;
    if (status.state !== "running") throw notRunning(given, "pause");
    given.attempt.step("pause", "Pausing the machine.", 0.5);
    await moveTo(given, "pausing");
    await deps.hypervisor.pause(machineId);
    return deps.hypervisor.inspect(machineId);
  },
  async resume(given) {
    const { deps, machineId } = given;
    const status = await deps.hypervisor.inspect(machineId);
    if (status.state === "running") return status;
    if (status.state !== "paused") throw notRunning(given, "resume");
    given.attempt.step("resume", "Resuming the machine.", 0.5);
    await deps.hypervisor.resume(machineId);
    await moveTo(given, "running");
    return deps.hypervisor.inspect(machineId);
  },
};

function notRunning({ instance }: Action, action: ControlAction): FormationError {
  return new FormationError(
    "conflict",
    `"${instance.name}" is not running, so there is nothing to ${action}.`,
    {
      step: action,
      remedy: "Start it with vm_control first.",
    },
  );
}

async function startMachine(given: Action, status: MachineStatus): Promise<MachineStatus> {
  const { deps, attempt, instance, machineId } = given;
  if (status.state === "absent" || status.state === "broken") {
    throw new FormationError(
      "conflict",
      `The machine of "${instance.name}" can't be started: it is ${status.state}.`,
      {
        step: "start",
        remedy: "Ship a build to this name with replace: true, or delete it.",
      },
    );
  }
  if (status.state !== "running") await moveTo(given, "starting");
  return boot(deps, {
    instanceId: instance.id,
    machineId,
    signal: attempt.signal,
    timeoutMs: attempt.remainingMs(),
    onStep: (step, message) => attempt.step(step, message, step === "boot" ? 0.4 : 0.7),
  });
}

/**
 * Ignores a cancel once it has begun: it has a time limit of its own, and there is no way back from a
 * half-stopped machine.
 */
async function stopMachine(given: Action): Promise<MachineStatus> {
  const { deps, attempt, machineId } = given;
  const status = await deps.hypervisor.inspect(machineId);
  if (hasProcess(status)) {
    attempt.step("stop", "Stopping the machine.", 0.1);
    await moveTo(given, "stopping");
    await deps.hypervisor.stop(machineId, { timeoutMs: deps.settings.stopMs });
  }
  return deps.hypervisor.inspect(machineId);
}

/** Moves the record to a state, by legal moves only. */
async function moveTo({ deps, attempt, instance }: Action, state: InstanceState): Promise<void> {
  const now = await deps.store.instance(null, instance.id);
  await moveNextTo(attempt, now.state, state, instance.id);
  if (now.state !== state) await attempt.apply({ instances: [{ id: instance.id, patch: { state } }] });
}

/** Moves the record to a state from which one legal move leads to the wanted one. */
async function moveNextTo(
  attempt: Attempt,
  from: InstanceState,
  to: InstanceState,
  id: Instance["id"],
): Promise<void> {
  for (const next of statePath(from, to).slice(0, -1)) {
    await attempt.apply({ instances: [{ id, patch: { state: next } }] });
  }
}

/**
 * The patch with the real state of the instance after an action that did not succeed. Stops a machine whose
 * start failed or was cancelled.
 */
async function realPatch(
  deps: WorkerDeps,
  attempt: Attempt,
  instance: Instance,
  outcome: UnsuccessfulOutcome,
): Promise<InstancePatch> {
  if (instance.state === "deleting" || instance.state === "deleted" || instance.machine_id === null)
    return {};
  if (isElsewhere(deps, instance)) return {};
  const { machine_id } = instance;
  let status = await deps.hypervisor.inspect(machine_id);
  if (instance.state === "starting" && hasProcess(status)) {
    await quietly(deps.logger, "stop what did not become live", () =>
      deps.hypervisor.stop(machine_id, { timeoutMs: deps.settings.stopMs }),
    );
    status = await deps.hypervisor.inspect(machine_id);
  }
  const state = realState(instance.state, status, outcome);
  await quietly(deps.logger, "move an instance", () =>
    moveNextTo(attempt, instance.state, state, instance.id),
  );
  const patch: InstancePatch = { state, observed: observedOf(status, deps.clock.now()) };
  if (outcome.state === "queued" || instance.desired === "deleted") return patch;
  if (state === "failed") return { ...patch, error: outcome.error };
  return { ...patch, desired: desireFor(state) };
}

function realState(
  recorded: InstanceState,
  status: MachineStatus,
  outcome: UnsuccessfulOutcome,
): InstanceState {
  if (status.state === "running") return "running";
  if (status.state === "paused") return "paused";
  if (recorded === "failed") return "failed";
  if (recorded === "stopped") return "stopped";
  return outcome.state === "failed" ? "failed" : "stopped";
}

function desireFor(state: InstanceState): InstanceDesire {
  return state === "running" ? "running" : state === "paused" ? "paused" : "stopped";
}
