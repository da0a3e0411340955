// Starting, stopping, restarting, pausing and resuming an instance's machine; each is done when it is already so.

import {
  type ControlAction,
  DRAIN_TOOL,
  FormationError,
  type Instance,
  type InstanceDesire,
  type InstanceState,
  type OperationInput,
  quietly,
} from "@formation-mcp/contract";
import type { MachineStatus } from "@formation-mcp/hypervisor";
import type { InstancePatch } from "@formation-mcp/operations";
import type { Attempt, OperationHandler } from "../attempt/attempt.ts";
import type { UnsuccessfulOutcome } from "../attempt/outcome.ts";
import type { WorkerDeps } from "../deps.ts";
import { hasProcess, isElsewhere, refuseMoved } from "../machines/machine-ids.ts";
import { observedOf } from "../machines/observed.ts";
import { statePath } from "../machines/state-path.ts";
import { boot } from "./boot.ts";
import { changeOf } from "./undo-ship.ts";

type ControlInput = Extract<OperationInput, { kind: "control" }>;

const DESIRED: Record<ControlAction, InstanceDesire> = {
  start: "running",
  restart: "running",
  resume: "running",
  stop: "stopped",
  pause: "paused",
};

/** The work of a `control` operation. */
export const controlHandler: OperationHandler = (deps, attempt) => {
  const { instance_id, action } = attempt.operation.input as ControlInput;
  return {
    async run() {
      const instance = await deps.store.instance(null, instance_id);
      const machineId = machineOf(deps, instance, action);
      const status = await ACTIONS[action]({ deps, attempt, instance, machineId });
      const state = action === "stop" ? "stopped" : action === "pause" ? "paused" : "running";
      await approach(attempt, (await deps.store.instance(null, instance_id)).state, state, instance_id);
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
    async undo(ending) {
      const instance = await deps.store.instance(null, instance_id);
      return { instances: changeOf(instance_id, await putBack(deps, attempt, instance, ending)) };
    },
    async abandon() {
      // Nothing was made; whether the machine may go on running is said by the record, and reconciling sees to it.
    },
  };
};

interface Case {
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

const ACTIONS: Record<ControlAction, (given: Case) => Promise<MachineStatus>> = {
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
    await pass(given, "pausing");
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
    await pass(given, "running");
    return deps.hypervisor.inspect(machineId);
  },
};

function notRunning({ instance }: Case, action: ControlAction): FormationError {
  return new FormationError(
    "conflict",
    `"${instance.name}" is not running, so there is nothing to ${action}.`,
    {
      step: action,
      remedy: "Start it with vm_control first.",
    },
  );
}

async function startMachine(given: Case, status: MachineStatus): Promise<MachineStatus> {
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
  if (status.state !== "running") await pass(given, "starting");
  return boot(deps, {
    instanceId: instance.id,
    machineId,
    signal: attempt.signal,
    timeoutMs: attempt.remainingMs(),
    onStep: (step, message) => attempt.step(step, message, step === "boot" ? 0.4 : 0.7),
  });
}

/** Not cancelled once begun: it ends by its own limit, and half-stopped is no state to go back from. */
async function stopMachine(given: Case): Promise<MachineStatus> {
  const { deps, attempt, machineId } = given;
  const status = await deps.hypervisor.inspect(machineId);
  if (hasProcess(status)) {
    attempt.step("stop", "Stopping the machine.", 0.1);
    await pass(given, "stopping");
    await deps.hypervisor.stop(machineId, { timeoutMs: deps.settings.stopMs });
  }
  return deps.hypervisor.inspect(machineId);
}

/** Moves the record to a state, by legal moves alone. */
async function pass({ deps, attempt, instance }: Case, state: InstanceState): Promise<void> {
  const now = await deps.store.instance(null, instance.id);
  await approach(attempt, now.state, state, instance.id);
  if (now.state !== state) await attempt.apply({ instances: [{ id: instance.id, patch: { state } }] });
}

/** Moves the record to where one legal move leads to the state. */
async function approach(
  attempt: Attempt,
  from: InstanceState,
  to: InstanceState,
  id: Instance["id"],
): Promise<void> {
  for (const next of statePath(from, to).slice(0, -1)) {
    await attempt.apply({ instances: [{ id, patch: { state: next } }] });
  }
}

/** What the instance really is after an action that came to nothing. A start that failed or was cancelled is stopped. */
async function putBack(
  deps: WorkerDeps,
  attempt: Attempt,
  instance: Instance,
  ending: UnsuccessfulOutcome,
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
  const state = realState(instance.state, status, ending);
  await quietly(deps.logger, "move an instance", () => approach(attempt, instance.state, state, instance.id));
  const patch: InstancePatch = { state, observed: observedOf(status, deps.clock.now()) };
  if (ending.state === "queued" || instance.desired === "deleted") return patch;
  if (state === "failed") return { ...patch, error: ending.error };
  return { ...patch, desired: desireFor(state) };
}

function realState(
  recorded: InstanceState,
  status: MachineStatus,
  ending: UnsuccessfulOutcome,
): InstanceState {
  if (status.state === "running") return "running";
  if (status.state === "paused") return "paused";
  if (recorded === "failed") return "failed";
  if (recorded === "stopped") return "stopped";
  return ending.state === "failed" ? "failed" : "stopped";
}

function desireFor(state: InstanceState): InstanceDesire {
  return state === "running" ? "running" : state === "paused" ? "paused" : "stopped";
}
