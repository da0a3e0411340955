// What the status of a machine means to the owner of its instance: what is shown of it, whether it is live,
// and why it ended.

import type { ErrorRecord, Observed } from "@formation-mcp/contract";
import type { MachineStatus } from "@formation-mcp/hypervisor";

export function observedOf(status: MachineStatus, now: number): Observed {
  return {
    accelerator: status.accelerator,
    endpoints: status.endpoints.map(({ guest_port, address, port }) => ({
      guest_port,
      address,
      port,
      listening: status.state === "running" && status.guest.listening.includes(guest_port),
    })),
    egress: { mode: status.egress.mode, reason: status.egress.reason },
    exit_code: status.guest.exit_code,
    started_at: status.guest.started_at,
    ...(status.unenforced?.length ? { unenforced: status.unenforced } : {}),
    ...(status.problem === null ? {} : { problem: status.problem }),
    seen_at: now,
  };
}

/** Whether two observations differ in more than their times. */
export function differs(before: Observed | null, after: Observed | null): boolean {
  const withoutTime = (observed: Observed | null) => observed && JSON.stringify({ ...observed, seen_at: 0 });
  return withoutTime(before) !== withoutTime(after);
}

/**
 * Whether a machine is live, as a deployment must be: its first port listens, or it exposes none and its
 * entrypoint runs.
 */
export function isLive(status: MachineStatus, ports: number[]): boolean {
  if (status.state !== "running" || status.guest.started_at === null || status.guest.exit_code !== null) {
    return false;
  }
  const first = ports[0];
  return first === undefined || status.guest.listening.includes(first);
}

/**
 * Why a machine that should run does not, and what to do about it.
 * @param startedAt when its guest started, in milliseconds since the epoch; null if unknown.
 */
export function whyDead(status: MachineStatus, startedAt: number | null, hostBootedAt: number): ErrorRecord {
  const { exit, guest, problem } = status;
  const code = guest.exit_code;
  if (status.state === "absent") {
    return {
      code: "unavailable",
      message: "The machine is gone from its node: nothing of it is left there.",
      remedy: "Ship a build to this name again with replace: true.",
      step: "run",
    };
  }
  if (status.state === "broken") {
    return {
      code: "internal",
      message: `What the node has of the machine contradicts itself${problem ? `: ${problem}` : ""}.`,
      remedy: "Ship a build to this name again with replace: true, or delete it.",
      step: "run",
    };
  }
  if (code !== null) {
    return {
      code: "invalid",
      message: `The entrypoint exited with code ${code}${guest.problem ? ` (${guest.problem})` : ""}.`,
      remedy:
        "Read vm_logs to see why. Start it again with vm_control, or ship a corrected build with replace: true.",
      exit_code: code,
      step: "entrypoint",
    };
  }
  if (guest.problem !== null) {
    return {
      code: "invalid",
      message: `The guest could not run the workload: ${guest.problem}.`,
      remedy: "Correct the formfile's entrypoint, build, and ship with replace: true.",
      step: "entrypoint",
    };
  }
  if (startedAt !== null && startedAt < hostBootedAt) {
    return {
      code: "unavailable",
      message: "The node's host was rebooted while the instance ran.",
      remedy: "Start it again with vm_control.",
      step: "run",
    };
  }
  if (exit?.leash) {
    return {
      code: "unavailable",
      message:
        "Its worker was killed, frozen or cut off before it let the machine go on: so it was ended in time.",
      remedy: "Start it again with vm_control: its disk is kept.",
      step: "run",
    };
  }
  return { ...endedBy(exit?.reason, exit?.code ?? null), step: "run" };
}

function endedBy(
  reason: NonNullable<MachineStatus["exit"]>["reason"] | undefined,
  code: number | null,
): ErrorRecord {
  switch (reason) {
    case "guest-shutdown":
      return {
        code: "invalid",
        message: "The guest shut itself down.",
        remedy: "Read vm_logs to see why, then start it again with vm_control.",
      };
    case "guest-panic":
      return {
        code: "invalid",
        message: "The guest's kernel panicked.",
        remedy: "Read vm_logs; give it more memory_mb if it ran out, then start it again with vm_control.",
      };
    case "stopped":
      return {
        code: "unavailable",
        message: "The machine was stopped on its node by somebody else.",
        remedy: "Start it again with vm_control.",
      };
    default:
      return {
        code: "unavailable",
        message: `The machine's process was killed on its node${code === null ? "" : ` (code ${code})`}.`,
        remedy:
          "Start it again with vm_control; if it happens again, look whether the host runs out of memory.",
      };
  }
}
