// The QEMU driver: one process per machine, in its own directory, as its own account where we are root.

import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { type Clock, FormationError, type Logger, silentLogger, systemClock } from "@formation-mcp/contract";
import { openAccelerators } from "./accelerator.ts";
import { openCgroups } from "./cgroup.ts";
import { createMachine } from "./create.ts";
import { type Engine, serialiser } from "./engine.ts";
import { openFirewall } from "./firewall.ts";
import { openJournals } from "./journal.ts";
import type { KernelOverride } from "./kernel.ts";
import { waitLive } from "./live.ts";
import { followLogs } from "./logs.ts";
import type { Machine } from "./machine.ts";
import type { Hypervisor, MachineStatus } from "./port.ts";
import { recover } from "./recover.ts";
import { removeMachine } from "./remove.ts";
import { startMachine } from "./start.ts";
import { setPaused, stopMachine } from "./stop.ts";
import { keepUp } from "./upkeep.ts";

export type { KernelOverride } from "./kernel.ts";

export interface QemuOptions {
  /** Only this driver writes here; made with mode 0700. */
  stateDir: string;
  clock?: Clock;
  logger?: Logger;
  /** `root`: each machine as an account of its own, with cgroups and firewall. Default: by who we are. */
  profile?: "root" | "user";
  /** Where forwarded ports are bound. Default 127.0.0.1. */
  bindAddress?: string;
  kernel?: KernelOverride;
  accelerator?: "auto" | "kvm" | "tcg";
  /** Whether guests may reach the internet at all. Default `internet`. */
  egress?: "internet" | "none";
  /** Networks that guests may reach, or may not, beyond the built-in rules: CIDR notation. */
  allowCidrs?: readonly string[];
  denyCidrs?: readonly string[];
  /** The first of the account numbers that machines run as. Default 2,000,000,000. */
  uidBase?: number;
  /** A static busybox for the guest's init. Default /bin/busybox. */
  busyboxPath?: string;
}

/** Opens the driver. It touches nothing but its directory until it is asked to. */
export async function openQemuHypervisor(options: QemuOptions): Promise<Hypervisor> {
  mkdirSync(options.stateDir, { recursive: true, mode: 0o700 });
  let closed = false;
  const listeners = new Set<(id: string) => void>();
  const engine: Engine = {
    settings: {
      stateDir: options.stateDir,
      profile: options.profile ?? (process.getuid?.() === 0 ? "root" : "user"),
      bindAddress: options.bindAddress ?? "127.0.0.1",
      kernel: options.kernel,
      egress: options.egress ?? "internet",
      uidBase: options.uidBase ?? 2_000_000_000,
      busyboxPath: options.busyboxPath ?? "/bin/busybox",
    },
    clock: options.clock ?? systemClock,
    logger: options.logger ?? silentLogger,
    journals: openJournals(join(options.stateDir, "machines")),
    firewall: openFirewall(),
    cgroups: openCgroups(),
    accelerators: openAccelerators(),
    machines: new Map(),
    broken: new Set(),
    followed: new Map(),
    reserved: new Map(),
    changed: (id) => {
      for (const listener of [...listeners]) listener(id);
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
    start: (id, hooks) =>
      engine.serial(id, async () => {
        const machine = known(id);
        await startMachine(engine, machine, hooks);
        return machine.status();
      }),
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
    probe: async () => ({
      driver: "qemu",
      version: "unknown",
      accelerator: "tcg",
      ready: true,
      problems: [],
      enforced: [],
    }),
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
