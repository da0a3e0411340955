// The rules of reconciling as one pure function. Its input is what the record says and what the machine does;
// its result is what the record becomes and what is done to the machine.

import type { ErrorRecord, Instance, InstanceState } from "@formation-mcp/contract";
import type { MachineStatus } from "@formation-mcp/hypervisor";
import { hasProcess } from "../machines/machine-ids.ts";
import { isLive, whyDead } from "../machines/observed.ts";

export interface Facts {
  instance: Instance;
  status: MachineStatus;
  /** The guest ports that the instance exposes. The machine is live when the first one listens. */
  ports: number[];
  /** Whether an operation on the instance is queued or runs; it then decides what is done. */
  pending: boolean;
  hostBootedAt: number;
}

export interface Decision {
  /** What the record becomes; the same state if nothing changes. */
  state: InstanceState;
  /** Written with the state. If absent, the record keeps its error. */
  error?: ErrorRecord | null;
  /** What is done to the machine before the record is written. */
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
  // A delete that was not possible while this node was away is done now.
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
  // A lost one has run all the time, and nothing has checked its port since.
  if (isLive(status, ports) || state === "pausing" || state === "paused" || state === "lost") {
    return { state: "running", error: null, action: "none" };
  }
  // It runs but is not live, and no operation waits for it. It is not left in this state.
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
