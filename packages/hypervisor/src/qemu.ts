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
import type { Machine } from "./machine.ts";
import { Machine as MachineClass } from "./machine.ts";
import type { Hypervisor, MachineStatus } from "./port.ts";
import { release, startMachine } from "./start.ts";
import { kill, stopMachine } from "./stop.ts";

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
    reserved: new Map(),
    changed: (id) => {
      for (const listener of [...listeners]) listener(id);
    },
    serial: serialiser(),
  };
  const known = (id: string): Machine => {
    const machine = engine.machines.get(id);
    if (machine) return machine;
    throw new FormationError("not_found", `There is no machine ${id}.`);
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
    pause: (id) =>
      engine.serial(id, async () => {
        const machine = known(id);
        await machine.qmp?.execute("stop");
        machine.note({ paused: true });
        machine.wake();
      }),
    resume: (id) =>
      engine.serial(id, async () => {
        const machine = known(id);
        await machine.qmp?.execute("cont");
        machine.note({ paused: false });
        machine.wake();
      }),
    remove: (id) =>
      engine.serial(id, async () => {
        const machine = engine.machines.get(id);
        if (machine) {
          machine.settle();
          machine.note({ stopping: true });
          await kill(machine);
          machine.settle();
          machine.note({ phase: "removing" });
          await release(engine, machine.journal);
          machine.detach();
        }
        engine.journals.discard(id);
        engine.machines.delete(id);
        engine.changed(id);
      }),
    inspect: async (id) => {
      const machine = engine.machines.get(id);
      if (!machine) return absent(id);
      machine.settle();
      return machine.status();
    },
    list: async () => [...engine.machines.values()].map((machine) => machine.status()),
    follow: async () => {},
    onChange: (listener) => {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    recover: async () => {
      for (const id of engine.journals.ids()) {
        const journal = engine.journals.read(id);
        if (journal) {
          const machine = new MachineClass(engine, journal);
          engine.machines.set(id, machine);
          if (machine.alive) await machine.attach();
          else machine.settle();
        }
      }
    },
    probe: async () => ({
      driver: "qemu",
      version: "unknown",
      accelerator: "tcg",
      ready: true,
      problems: [],
      enforced: [],
    }),
    close: async () => {
      for (const machine of engine.machines.values()) machine.detach();
    },
  };
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
