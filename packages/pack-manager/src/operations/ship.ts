// The `ship` operation: boots a build as the machine of an instance, in place of the machine before it. If
// that fails, the machine before it runs again.

import { setTimeout as delay } from "node:timers/promises";
import {
  type Build,
  type Deployment,
  FormationError,
  type Instance,
  LIMITS,
  quietly,
  RESTING_STATES,
} from "@formation-mcp/contract";
import { waitFor } from "@formation-mcp/os";
import type { Attempt, OperationHandler } from "../attempt/operation-handler.ts";
import type { WorkerDeps } from "../deps.ts";
import { hasProcess, hostnameFor, isElsewhere, machineName } from "../machines/machine-ids.ts";
import { observedOf } from "../machines/observed.ts";
import { boot } from "./boot.ts";
import { makeImage } from "./build.ts";
import { ensureImage } from "./image-archives.ts";
import type { InputOf } from "./operation-input.ts";
import { removeOtherMachines, undoShip } from "./undo-ship.ts";

const FORMNET_WARNING =
  "network: formnet does not exist yet, so join_formnet and external_networks change nothing.";
/** The longest wait for a build that another operation makes. */
const MAX_BUILD_WAIT_MS = 10 * 60_000;
/** How often a store that does not answer is asked whether a record names the machine. */
const STORE_RETRY_MS = 500;
/** The fraction of a shipment's progress that its own build takes. */
const BUILD_PROGRESS_SHARE = 0.6;

export const shipHandler: OperationHandler = (deps, attempt) => {
  const input = attempt.operation.input as InputOf<"ship">;
  const machineId = machineName(input.deployment_id, attempt.number);
  let former: string | null = null;
  return {
    async run() {
      const deployment = await deps.store.deployment(null, input.deployment_id);
      const instance = await deps.store.instance(null, input.instance_id);
      refuseActiveElsewhere(deps, instance);
      const takenOver = isElsewhere(deps, instance);
      await removeOtherMachines(deps, input.deployment_id, instance.machine_id);
      await attempt.apply({
        deployments: [{ id: deployment.id, patch: { state: "deploying", machine_id: machineId } }],
        // Until the new machine is live, the record names the node that has the machine before it.
        instances: takenOver ? [] : [{ id: instance.id, patch: { node_id: deps.node.id } }],
      });
      const build = await readyBuild(deps, attempt, input);
      await createMachine(deps, attempt, machineId, deployment, build);
      if (!takenOver) {
        former = instance.machine_id;
        await stopFormer(deps, attempt, instance);
      }
      const status = await boot(deps, {
        instanceId: instance.id,
        machineId,
        signal: attempt.signal,
        timeoutMs: attempt.remainingMs(),
        onStep: (step, message) => attempt.step(step, message, step === "boot" ? 0.75 : 0.85),
        leash: attempt.leash,
      });
      const now = deps.clock.now();
      return {
        builds: [{ id: build.id, patch: { used_at: now } }],
        deployments: [
          { id: deployment.id, patch: { state: "live", ended_at: now, error: null } },
          ...(await supersede(deps, instance, deployment, now)),
        ],
        instances: [
          {
            id: instance.id,
            patch: {
              state: "running",
              ...(instance.desired === "deleted" ? {} : { desired: "running" as const }),
              node_id: deps.node.id,
              deployment_id: deployment.id,
              machine_id: machineId,
              build_id: build.id,
              config: deployment.config,
              warnings: warningsFor(build, deployment),
              observed: observedOf(status, now),
              error: null,
            },
          },
        ],
      };
    },
    undo: (outcome) => undoShip(deps, attempt, input, outcome),
    async abandon() {
      const read = () => deps.store.instance(null, input.instance_id).catch(() => null);
      let instance = await read();
      // If the store does not answer, the record may name this machine, and its disk is then the owner's. So
      // the machine is only stopped, and the attempt keeps its capacity, until the store answers.
      if (!instance) await stopNow(deps, machineId);
      for (; !instance && !attempt.leaving.aborted; instance = await read()) {
        await delay(STORE_RETRY_MS, undefined, { signal: attempt.leaving }).catch(() => {});
      }
      if (!instance || instance.machine_id === machineId) return;
      await quietly(deps.logger, `remove ${machineId}`, () => deps.hypervisor.remove(machineId));
    },
    async done() {
      if (former !== null && former !== machineId) await deps.hypervisor.remove(former);
    },
  };
};

async function stopNow(deps: WorkerDeps, machineId: string): Promise<void> {
  await quietly(deps.logger, `stop ${machineId}`, () => deps.hypervisor.stop(machineId, { timeoutMs: 0 }));
}

/**
 * @throws FormationError `conflict` if another node may run the instance. A lost one may run on its silent
 * node, so that it is never started elsewhere.
 */
function refuseActiveElsewhere(deps: WorkerDeps, instance: Instance): void {
  if (!isElsewhere(deps, instance) || RESTING_STATES.includes(instance.state)) return;
  if (instance.state === "lost") {
    throw new FormationError("conflict", `"${instance.name}" is lost with its node: it may run there.`, {
      step: "start",
      remedy:
        "It comes back with its node. If that never will, an admin removes the node with force; then ship again.",
    });
  }
  throw new FormationError("conflict", `"${instance.name}" is ${instance.state} on another node.`, {
    step: "start",
    remedy: "Stop it first, then ship under that name again.",
  });
}

/** The build to ship. Makes it if it belongs to this operation (`vm_create`), otherwise waits for it. */
async function readyBuild(
  deps: WorkerDeps,
  attempt: Attempt,
  input: InputOf<"ship">,
): Promise<Build & { image: NonNullable<Build["image"]> }> {
  const read = () => deps.store.build(null, input.build_id);
  let build = await read();
  if (
    build.operation_id === attempt.operation.id &&
    (build.state === "queued" || build.state === "building")
  ) {
    const patch = await makeImage(deps, attempt, build, {
      noCache: false,
      memory_mb: LIMITS.buildMemoryMb,
      vcpus: build.formfile.resources.vcpus,
      progressShare: BUILD_PROGRESS_SHARE,
    });
    await attempt.apply({ builds: [{ id: build.id, patch }] });
    build = await read();
  } else if (build.state === "queued" || build.state === "building") {
    attempt.step("build", "Waiting for the build.");
    await waitFor(
      async () => {
        build = await read();
        return build.state !== "queued" && build.state !== "building";
      },
      {
        timeoutMs: Math.min(MAX_BUILD_WAIT_MS, attempt.remainingMs()),
        everyMs: 500,
        signal: attempt.signal,
        what: "the build",
      },
    );
  }
  const { image } = build;
  if (build.state !== "ready" || image === null) {
    throw new FormationError("conflict", `The build is ${build.state}, so there is nothing to ship.`, {
      step: "build",
      remedy: "Look at build_get, build again, and ship that.",
    });
  }
  return { ...build, image };
}

async function createMachine(
  deps: WorkerDeps,
  attempt: Attempt,
  machineId: string,
  deployment: Deployment,
  build: Build & { image: NonNullable<Build["image"]> },
): Promise<void> {
  const { resources, host_ports } = deployment.config;
  await ensureImage(deps, attempt, build);
  attempt.step("disk", "Preparing the disk.", 0.65);
  const disk = await deps.builder.disk(build.image.digest, resources.disk_gb, attempt.signal);
  attempt.step("create", "Making the machine.", 0.7);
  await deps.hypervisor.create({
    id: machineId,
    hostname: hostnameFor(deployment.instance_name),
    disk,
    vcpus: resources.vcpus,
    memory_mb: resources.memory_mb,
    process: build.image.process,
    ports: build.image.expose.map((port) => ({ guest_port: port, port: host_ports[String(port)] ?? null })),
    egress: true,
  });
  attempt.signal.throwIfAborted();
}

/**
 * Stops the machine that the instance runs as, so that at most one of its machines ever runs. The machine is
 * kept for the case that the shipment fails.
 */
async function stopFormer(deps: WorkerDeps, attempt: Attempt, instance: Instance): Promise<void> {
  const move = (state: Instance["state"]) =>
    attempt.apply({ instances: [{ id: instance.id, patch: { state } }] });
  if (instance.machine_id === null) return move("starting");
  const status = await deps.hypervisor.inspect(instance.machine_id);
  if (!hasProcess(status)) {
    // An earlier attempt stopped it and got no further. No legal move leads from `stopping` to `running`.
    if (instance.state === "stopping") await move("starting");
    return;
  }
  attempt.step("replace", "Stopping what runs under that name.", 0.72);
  // A stop is finished once it has begun: there is no way back from a half-stopped machine.
  if (instance.state === "pausing") await move("paused");
  if (instance.state !== "starting" && instance.state !== "stopping") await move("stopping");
  await deps.hypervisor.stop(instance.machine_id, { timeoutMs: deps.settings.stopMs });
  if (instance.state !== "starting") await move("starting");
  attempt.signal.throwIfAborted();
}

async function supersede(deps: WorkerDeps, instance: Instance, deployment: Deployment, now: number) {
  const { deployment_id } = instance;
  if (deployment_id === null || deployment_id === deployment.id) return [];
  const before = await deps.store.deployment(null, deployment_id).catch(() => null);
  if (before?.state !== "live") return [];
  return [{ id: deployment_id, patch: { state: "superseded" as const, ended_at: now } }];
}

function warningsFor(build: Build, deployment: Deployment): string[] {
  const warnings = [...build.warnings];
  const { join_formnet, external_networks } = deployment.config.network;
  const said = warnings.some((warning) => warning.includes("formnet"));
  if ((join_formnet || external_networks.length > 0) && !said) warnings.push(FORMNET_WARNING);
  return warnings;
}
