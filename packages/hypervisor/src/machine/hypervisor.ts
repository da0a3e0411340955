// The hypervisor port over any driver: calls about one machine run one after the other, except those that
// only look, follow or change the leash.

import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { createKeyedLock } from "@formation-mcp/base";
import { type Clock, FormationError, type Logger } from "@formation-mcp/contract";
import { followLogs, type OnLine } from "../logs/follow.ts";
import type { Hypervisor, LeashHooks, MachineStatus, StartHooks } from "../port.ts";
import { createMachine } from "./create.ts";
import type { HypervisorDeps, HypervisorSettings } from "./deps.ts";
import type { MachineDriver } from "./driver.ts";
import { createJournals } from "./journal.ts";
import { createLeashes } from "./leash.ts";
import { waitLive } from "./live.ts";
import type { Machine } from "./machine.ts";
import { startMaintenance } from "./maintenance.ts";
import { recover } from "./recover.ts";
import { releaseEnded } from "./release.ts";
import { removeMachine } from "./remove.ts";
import { startMachine } from "./start.ts";
import { setPaused, stopMachine } from "./stop.ts";

/** Opens a hypervisor on `settings.stateDir`, which is made with mode 0700; see `Hypervisor`. */
export function openHypervisor(
  settings: HypervisorSettings,
  driver: MachineDriver,
  clock: Clock,
  logger: Logger,
): Hypervisor {
  mkdirSync(settings.stateDir, { recursive: true, mode: 0o700 });
  let closed = false;
  const listeners = new Set<(id: string) => void>();
  const journals = createJournals(join(settings.stateDir, "machines"));
  const deps: HypervisorDeps = {
    settings,
    clock,
    logger,
    journals,
    driver,
    leashes: createLeashes((id) => journals.paths(id).runDirectory),
    machines: new Map(),
    broken: new Set(),
    followers: new Map(),
    reservedPorts: new Map(),
    machineChanged: (id) => {
      for (const listener of [...listeners]) listener(id);
    },
    machineEnded: (id) => {
      if (!closed) void deps.serial(id, () => releaseEnded(deps, id)).catch(() => {});
    },
    serial: createKeyedLock().run,
  };
  const endMaintenance = startMaintenance(deps);
  return {
    create: (spec) => deps.serial(spec.id, () => createMachine(deps, spec)),
    start: (id, hooks) => start(deps, id, hooks),
    prolong: async (id, leashMs) => deps.leashes.prolong(id, leashMs),
    release: (id) => deps.leashes.release(id),
    waitLive: async (id, hooks) => {
      const machine = known(deps, id);
      await waitLive(machine, hooks);
      return machine.status();
    },
    stop: (id, options) =>
      deps.serial(id, async () => {
        const machine = deps.machines.get(id);
        if (machine) await stopMachine(deps, machine, options);
      }),
    pause: (id) => deps.serial(id, () => setPaused(known(deps, id), true)),
    resume: (id) => deps.serial(id, () => setPaused(known(deps, id), false)),
    remove: (id) => deps.serial(id, () => removeMachine(deps, id)),
    inspect: async (id) => inspect(deps, id),
    list: async () => [...deps.machines.keys(), ...deps.broken].map((id) => inspect(deps, id)),
    follow: (id, signal, onLine) => follow(deps, id, signal, onLine, () => closed),
    onChange: (listener) => {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    recover: () => recover(deps),
    probe: () => driver.probe(),
    close: async () => {
      closed = true;
      listeners.clear();
      await endMaintenance();
      for (const machine of deps.machines.values()) machine.detach();
    },
  };
}

function known(deps: HypervisorDeps, id: string): Machine {
  const machine = deps.machines.get(id);
  if (machine) return machine;
  throw new FormationError("not_found", `There is no machine ${id}.`);
}

/** The leash counts from now, not from when it is this start's turn. */
async function start(
  deps: HypervisorDeps,
  id: string,
  hooks: StartHooks & LeashHooks,
): Promise<MachineStatus> {
  const leash = hooks.leashMs === undefined ? null : deps.leashes.begin(id, hooks.leashMs);
  try {
    return await deps.serial(id, async () => {
      const machine = known(deps, id);
      await startMachine(deps, machine, hooks, leash);
      return machine.status();
    });
  } finally {
    if (leash) deps.leashes.forget(leash);
  }
}

async function follow(
  deps: HypervisorDeps,
  id: string,
  signal: AbortSignal,
  onLine: OnLine,
  isClosed: () => boolean,
): Promise<void> {
  const machine = known(deps, id);
  const { followers } = deps;
  const { directory, runDirectory } = deps.journals.paths(id);
  followers.set(id, (followers.get(id) ?? 0) + 1);
  try {
    await followLogs(
      {
        directory,
        runDirectory,
        removed: () => isClosed() || deps.machines.get(id) !== machine,
        writing: () => machine.alive,
        epoch: () => machine.logEpoch,
      },
      signal,
      onLine,
    );
  } finally {
    const left = (followers.get(id) ?? 1) - 1;
    if (left > 0) followers.set(id, left);
    else followers.delete(id);
  }
}

function inspect(deps: HypervisorDeps, id: string): MachineStatus {
  const machine = deps.machines.get(id);
  if (!machine) return deps.broken.has(id) ? brokenStatus(id) : absentStatus(id);
  try {
    machine.noteExit();
    return machine.status();
  } catch (error) {
    return { ...brokenStatus(id), problem: `its files cannot be read: ${String(error)}` };
  }
}

function brokenStatus(id: string): MachineStatus {
  return { ...absentStatus(id), state: "broken", problem: "what is on disk for it cannot be understood" };
}

function absentStatus(id: string): MachineStatus {
  return {
    id,
    state: "absent",
    pid: null,
    accelerator: null,
    endpoints: [],
    egress: { mode: "none", reason: "there is no such machine" },
    guest: { started_at: null, listening: [], exit_code: null, problem: null },
    exit: null,
    problem: null,
  };
}
