// Shipping: a build becomes a machine that is live under an instance's name, in place of what ran there before; or
// nothing changes for what ran there before.

import { setTimeout as delay } from "node:timers/promises";
import {
  type Build,
  type Deployment,
  FormationError,
  type Instance,
  LIMITS,
  type OperationInput,
  quietly,
  RESTING_STATES,
} from "@formation-mcp/contract";
import { waitFor } from "@formation-mcp/os";
import type { Attempt, OperationHandler } from "../attempt/attempt.ts";
import type { WorkerDeps } from "../deps.ts";
import { hasProcess, hostnameFor, isElsewhere, machineName } from "../machines/machine-ids.ts";
import { observedOf } from "../machines/observed.ts";
import { boot } from "./boot.ts";
import { makeImage } from "./build.ts";
import { bringImage } from "./image-archives.ts";
import { clearDeployment, undoShip } from "./undo-ship.ts";

export type ShipInput = Extract<OperationInput, { kind: "ship" }>;

const FORMNET_WARNING =
  "network: formnet does not exist yet, so join_formnet and external_networks change nothing.";
/** How long a build that another operation makes is waited for. */
const OTHER_BUILD_MS = 10 * 60_000;
/** How often a store that does not answer is asked whose a machine is. */
const ASK_AGAIN_MS = 500;

/** The work of a `ship` operation. */
export const shipHandler: OperationHandler = (deps, attempt) => {
  const input = attempt.operation.input as ShipInput;
  const machineId = machineName(input.deployment_id, attempt.number);
  let former: string | null = null;
  return {
    async run() {
      const deployment = await deps.store.deployment(null, input.deployment_id);
      const instance = await deps.store.instance(null, input.instance_id);
      refuseElsewhere(deps, instance);
      const takenOver = isElsewhere(deps, instance);
      await clearDeployment(deps, input.deployment_id, instance.machine_id);
      await attempt.apply({
        deployments: [{ id: deployment.id, patch: { state: "deploying", machine_id: machineId } }],
        // Until it lives here, what there is of it is on the node that it comes from.
        instances: takenOver ? [] : [{ id: instance.id, patch: { node_id: deps.node.id } }],
      });
      const build = await readyBuild(deps, attempt, input);
      await createMachine(deps, attempt, machineId, deployment, build);
      if (!takenOver) {
        former = instance.machine_id;
        await makeWay(deps, attempt, instance);
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
    undo: (ending) => undoShip(deps, attempt, input, ending),
    async abandon() {
      const read = () => deps.store.instance(null, input.instance_id).catch(() => null);
      let instance = await read();
      // With no answer it may be the record's own, whose disk is its owner's: it only ends, and what it takes here is
      // counted as this attempt's, until that is known.
      if (!instance) await stopAtOnce(deps, machineId);
      for (; !instance && !attempt.leaving.aborted; instance = await read()) {
        await delay(ASK_AGAIN_MS, undefined, { signal: attempt.leaving }).catch(() => {});
      }
      if (!instance || instance.machine_id === machineId) return;
      await quietly(deps.logger, `remove ${machineId}`, () => deps.hypervisor.remove(machineId));
    },
    async done() {
      if (former !== null && former !== machineId) await deps.hypervisor.remove(former);
    },
  };
};

async function stopAtOnce(deps: WorkerDeps, machineId: string): Promise<void> {
  await quietly(deps.logger, `stop ${machineId}`, () => deps.hypervisor.stop(machineId, { timeoutMs: 0 }));
}

/** What is lost may run on a node that nobody hears: it is never begun anew elsewhere. */
function refuseElsewhere(deps: WorkerDeps, instance: Instance): void {
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

/** The build to ship: made here and now when it belongs to this operation (`vm_create`), waited for when to another. */
async function readyBuild(
  deps: WorkerDeps,
  attempt: Attempt,
  input: ShipInput,
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
      whole: false,
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
        timeoutMs: Math.min(OTHER_BUILD_MS, attempt.remainingMs()),
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
  await bringImage(deps, attempt, build);
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

/** Stops what runs under the name, so that at most one machine of an instance ever runs; it is kept for the way back. */
async function makeWay(deps: WorkerDeps, attempt: Attempt, instance: Instance): Promise<void> {
  const move = (state: Instance["state"]) =>
    attempt.apply({ instances: [{ id: instance.id, patch: { state } }] });
  if (instance.machine_id === null) return move("starting");
  const status = await deps.hypervisor.inspect(instance.machine_id);
  if (!hasProcess(status)) {
    // An attempt before this one stopped it and got no further: what is half-stopped cannot become running.
    if (instance.state === "stopping") await move("starting");
    return;
  }
  attempt.step("replace", "Stopping what runs under that name.", 0.72);
  // A stop that was begun is finished: half-stopped is no state to go back from.
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
