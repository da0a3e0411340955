// The port's methods over whatever runs the machines: one queue of actions per machine, and what everybody may ask at once.

import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { type Clock, FormationError, type Logger } from "@formation-mcp/contract";
import { followLogs } from "../logs/follow.ts";
import type { Hypervisor, MachineStatus } from "../port.ts";
import { createMachine } from "./create.ts";
import { type Engine, type Settings, serialiser } from "./deps.ts";
import type { Runner } from "./driver.ts";
import { openJournals } from "./journal.ts";
import { leashFor, prolong, releaseLeash } from "./leash.ts";
import { waitLive } from "./live.ts";
import type { Machine } from "./machine.ts";
import { freed, keepUp } from "./maintenance.ts";
import { recover } from "./recover.ts";
import { removeMachine } from "./remove.ts";
import { startMachine } from "./start.ts";
import { setPaused, stopMachine } from "./stop.ts";

export function openHypervisor(settings: Settings, runner: Runner, clock: Clock, logger: Logger): Hypervisor {
  mkdirSync(settings.stateDir, { recursive: true, mode: 0o700 });
  let closed = false;
  const listeners = new Set<(id: string) => void>();
  const engine: Engine = {
    settings,
    clock,
    logger,
    journals: openJournals(join(settings.stateDir, "machines")),
    runner,
    machines: new Map(),
    broken: new Set(),
    followed: new Map(),
    reserved: new Map(),
    starting: new Set(),
    changed: (id) => {
      for (const listener of [...listeners]) listener(id);
    },
    ended: (id) => {
      if (!closed) void engine.serial(id, () => freed(engine, id)).catch(() => {});
    },
    serial: serialiser(),
  };
  const endUpkeep = keepUp(engine);
  const known = (id: string): Machine => {
    const machine = engine.machines.get(id);
    if (machine) return machine;
    throw new FormationError("not_found", `There is no machine ${id}.`);
  };
  const look = (id: string): MachineStatus => {
    const machine = engine.machines.get(id);
    if (!machine) return engine.broken.has(id) ? broken(id) : absent(id);
    try {
      machine.settle();
      return machine.status();
    } catch (error) {
      return { ...broken(id), problem: `its files cannot be read: ${String(error)}` };
    }
  };
  return {
    create: (spec) => engine.serial(spec.id, () => createMachine(engine, spec)),
    start: async (id, hooks) => {
      const leash = hooks.leashMs === undefined ? null : leashFor(id, hooks.leashMs);
      if (leash) engine.starting.add(leash);
      try {
        return await engine.serial(id, async () => {
          const machine = known(id);
          await startMachine(engine, machine, hooks, leash);
          return machine.status();
        });
      } finally {
        if (leash) engine.starting.delete(leash);
      }
    },
    prolong: async (id, leashMs) => prolong(engine, id, leashMs),
    release: (id) => releaseLeash(engine, id),
    waitLive: async (id, hooks) => {
      const machine = known(id);
      await waitLive(machine, hooks);
      return machine.status();
    },
    stop: (id, stopOptions) =>
      engine.serial(id, async () => {
        const machine = engine.machines.get(id);
        if (machine) await stopMachine(engine, machine, stopOptions);
      }),
    pause: (id) => engine.serial(id, () => setPaused(known(id), true)),
    resume: (id) => engine.serial(id, () => setPaused(known(id), false)),
    remove: (id) => engine.serial(id, () => removeMachine(engine, id)),
    inspect: async (id) => look(id),
    list: async () => [...engine.machines.keys(), ...engine.broken].map(look),
    follow: async (id, signal, onLine) => {
      const machine = known(id);
      engine.followed.set(id, (engine.followed.get(id) ?? 0) + 1);
      try {
        await followLogs(
          {
            directory: engine.journals.directory(id),
            runDirectory: machine.directory,
            removed: () => closed || engine.machines.get(id) !== machine,
            writing: () => machine.alive,
            epoch: () => machine.logEpoch,
          },
          signal,
          onLine,
        );
      } finally {
        const left = (engine.followed.get(id) ?? 1) - 1;
        if (left > 0) engine.followed.set(id, left);
        else engine.followed.delete(id);
      }
    },
    onChange: (listener) => {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    recover: () => recover(engine),
    probe: () => runner.probe(),
    close: async () => {
      closed = true;
      listeners.clear();
      await endUpkeep();
      for (const machine of engine.machines.values()) machine.detach();
    },
  };
}

function broken(id: string): MachineStatus {
  return { ...absent(id), state: "broken", problem: "what is on disk for it cannot be understood" };
}

function absent(id: string): MachineStatus {
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
