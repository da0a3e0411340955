// The rules of reconciling, as one pure function: from what a record says and what a machine is, to what is to be done.

import type { ErrorRecord, Instance, InstanceState } from "@formation-mcp/contract";
import type { MachineStatus } from "@formation-mcp/hypervisor";
import { hasProcess } from "../machines/machine-ids.ts";
import { isLive, whyDead } from "../machines/observed.ts";

export interface Facts {
  instance: Instance;
  status: MachineStatus;
  /** The guest ports that the instance exposes, the first being the one that proves life. */
  ports: number[];
  /** Whether an operation on the instance is queued or runs: what is to be done is its matter then. */
  pending: boolean;
  hostBootedAt: number;
}

export interface Decision {
  /** What the record becomes; the same state if nothing changes. */
  state: InstanceState;
  /** Written with the state; absent: as it is. */
  error?: ErrorRecord | null;
  /** What is done to the machine first. */
  action: "none" | "stop" | "remove";
}

const INTERRUPTED: ErrorRecord = {
  code: "unavailable",
  message: "The operation on this instance ended before the machine was live.",
  remedy: "Start it with vm_control, ship again with replace: true, or delete it.",
  step: "run",
};

export function decide(facts: Facts): Decision {
  const { instance, status, pending } = facts;
  const { state } = instance;
  if (state === "deleted") return { state, action: "none" };
  // A delete that could not be done while its node was away is done now.
  if (state === "deleting" || (state === "lost" && instance.desired === "deleted"))
    return pending ? { state, action: "none" } : { state: "deleted", action: "remove" };
  if (instance.machine_id === null) return withoutMachine(instance, pending);
  if (hasProcess(status)) return withLivingMachine(facts);
  return withDeadMachine(facts);
}

function withoutMachine({ state }: Instance, pending: boolean): Decision {
  const waits = state === "failed" || pending;
  return waits ? { state, action: "none" } : { state: "failed", error: INTERRUPTED, action: "none" };
}

function withLivingMachine({ instance, status, ports, pending }: Facts): Decision {
  const { state, desired } = instance;
  if (pending) return { state, action: "none" };
  if (desired === "stopped") return { state: "stopped", error: null, action: "stop" };
  if (status.state === "paused") return { state: "paused", error: null, action: "none" };
  if (state === "running") return { state, action: "none" };
  // One that was lost ran all the while: whether its port still listens was never asked of it since.
  if (isLive(status, ports) || state === "pausing" || state === "paused" || state === "lost") {
    return { state: "running", error: null, action: "none" };
  }
  // It runs, nobody waits for it to become live, and it is not: that is no state to leave it in.
  return { state: "failed", error: instance.error ?? INTERRUPTED, action: "stop" };
}

function withDeadMachine({ instance, status, pending, hostBootedAt }: Facts): Decision {
  const { state, desired } = instance;
  const gone = status.state === "absent" || status.state === "broken";
  const why = () => whyDead(status, instance.observed?.started_at ?? null, hostBootedAt);
  if (state === "failed") return { state, action: "none" };
  if (state === "stopped") {
    if (gone && !pending) return { state: "failed", error: why(), action: "none" };
    return { state, action: "none" };
  }
  if (pending && (state === "starting" || state === "stopping" || state === "lost")) {
    return { state, action: "none" };
  }
  if (gone) return { state: "failed", error: why(), action: "none" };
  if (desired === "stopped" || (state === "stopping" && desired !== "running")) {
    return { state: "stopped", error: null, action: "none" };
  }
  if (state === "stopping" || state === "starting") {
    return { state: "failed", error: INTERRUPTED, action: "none" };
  }
  return { state: "failed", error: why(), action: "none" };
}
