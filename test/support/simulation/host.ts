// A host of the simulation. Its machines and images survive the end of the worker process; a crash of the
// host ends running machines only. The hypervisor of a worker process is a view of the host whose calls take
// virtual time.

import { FormationError } from "@formation-mcp/contract";
import type { Hypervisor, HypervisorReport, MachineSpec, MachineStatus } from "@formation-mcp/hypervisor";
import { type Chance, hash } from "./chance.ts";
import { elapsed, later, type Place, pause, placeNamed, trueTime, within } from "./time.ts";
import type { Load, Resources, Truth } from "./truth.ts";

interface Machine {
  readonly spec: MachineSpec;
  readonly disk_gb: number;
  state: MachineStatus["state"];
  startedAt: number | null;
  listening: boolean;
  exitCode: number | null;
  exit: MachineStatus["exit"];
  boots: number;
  leash: Leash | null;
  /** Called when the machine is removed. */
  readonly gone: Set<() => void>;
}

/** The virtual time at which the machine ends unless its lease is renewed; null: never. */
interface Leash {
  until: number | null;
}

export class Host {
  readonly name: string;
  readonly load: Load;
  readonly truth: Truth;
  readonly chance: Chance;
  readonly machines = new Map<string, Machine>();
  readonly images = new Set<string>();
  readonly listeners = new Set<{ place: Place; tell(id: string): void }>();
  /** The resources of running builds by id: they end with the worker process. */
  readonly building = new Map<string, Resources>();
  power: Place;
  bootedAt = trueTime();

  constructor(name: string, capacity: Resources, truth: Truth, chance: Chance) {
    this.name = name;
    this.truth = truth;
    this.chance = chance;
    this.load = { host: name, capacity, used: { vcpus: 0, memory_mb: 0, disk_gb: 0 } };
    this.power = placeNamed(`${name} itself`);
  }

  changed(id: string): void {
    for (const { place: where, tell } of this.listeners) {
      if (where.alive) later(1, where, () => tell(id));
    }
  }

  begin(id: string, machine: Machine, leash: Leash | null): void {
    machine.state = "running";
    machine.leash = leash;
    machine.startedAt = null;
    machine.listening = false;
    machine.exitCode = null;
    machine.exit = null;
    machine.boots++;
    this.truth.take(this.load, running(machine), 1, `${id} starts`);
    this.truth.started(this.load, id);
    const boot = machine.boots;
    const still = () => machine.boots === boot && machine.state === "running";
    if (leash !== null) this.#hold(id, machine, leash);
    // A guest runs independently of the worker.
    const fate = (hash(`${id} ${boot}`) % 1000) / 1000;
    within(this.power, () => {
      later(this.chance.between(100, 2000), this.power, () => {
        if (!still()) return;
        machine.startedAt = trueTime();
        if (fate < 0.03) this.end(id, machine, "guest-shutdown", 1);
        else if (fate > 0.01 + 0.03) machine.listening = true;
        this.changed(id);
      });
    });
  }

  /** Ends a machine when its lease ends, whatever happens to the worker. */
  #hold(id: string, machine: Machine, leash: Leash): void {
    if (leash.until === null) return;
    later(leash.until - elapsed(), this.power, () => {
      if (leash.until === null || machine.leash !== leash) return;
      if (leash.until > elapsed()) return this.#hold(id, machine, leash);
      this.truth.count("machines ended by their leash");
      this.end(id, machine, "killed", null);
    });
  }

  end(id: string, machine: Machine, reason: "guest-shutdown" | "stopped" | "killed", code: number | null) {
    if (machine.state !== "running" && machine.state !== "paused") return;
    machine.state = "stopped";
    machine.leash = null;
    machine.listening = false;
    machine.exitCode = reason === "guest-shutdown" ? code : null;
    machine.exit = { reason, code };
    this.truth.take(this.load, running(machine), -1, `${id} ends`);
    this.truth.ended(this.load, id);
    this.changed(id);
  }

  forget(id: string, machine: Machine): void {
    this.end(id, machine, "killed", null);
    machine.state = "absent";
    for (const tell of machine.gone) tell();
    this.machines.delete(id);
    this.truth.take(this.load, { disk_gb: machine.disk_gb }, -1, `${id} is removed`);
    this.changed(id);
  }

  /** The worker process has ended, and everything tied to it. */
  processEnded(): void {
    for (const [id, needs] of this.building) this.truth.take(this.load, needs, -1, `${id} is broken off`);
    this.building.clear();
    this.listeners.clear();
  }

  /** The power fails: running machines end, disks stay. */
  fail(): void {
    this.power.alive = false;
    for (const [id, machine] of this.machines) this.end(id, machine, "killed", null);
  }

  boot(): void {
    this.power = placeNamed(`${this.name} itself`);
    this.bootedAt = trueTime();
  }

  status(id: string): MachineStatus {
    const machine = this.machines.get(id);
    if (!machine) return absent(id);
    const live = machine.state === "running";
    const { ports } = machine.spec;
    return {
      ...absent(id),
      state: machine.state,
      pid: live ? 1 : null,
      accelerator: "tcg",
      endpoints: ports.map(({ guest_port }, at) => ({
        guest_port,
        address: "127.0.0.1",
        port: 20_000 + (hash(id) % 20_000) + at,
      })),
      guest: {
        started_at: machine.startedAt,
        listening: live && machine.listening ? ports.map(({ guest_port }) => guest_port) : [],
        exit_code: machine.exitCode,
        problem: null,
      },
      exit: live ? null : machine.exit,
    };
  }
}

/** The resources of a machine: CPU and memory while it runs or is paused, its disk as long as it exists. */
function running({ spec }: Machine): Partial<Resources> {
  return { vcpus: spec.vcpus, memory_mb: spec.memory_mb };
}

/** What may happen to a process at a step; a process that ends there does not continue. */
export type Mishap = (step: string) => Promise<void>;

/** The hypervisor as one worker process of the host sees it. */
export function hypervisorOn(host: Host, where: Place, mishap: Mishap): Hypervisor {
  const { chance } = host;
  const queues = new Map<string, Promise<unknown>>();
  /** A renewal or release also applies to a start that is in progress. */
  const starting = new Map<string, Leash>();
  /** Calls about one machine run one after the other. */
  const alone = <T>(id: string, what: string, action: () => Promise<T>): Promise<T> => {
    const run = async () => {
      await mishap(`before ${what}`);
      const result = await action();
      await mishap(`after ${what}`);
      return result;
    };
    const result = (queues.get(id) ?? Promise.resolve()).then(run, run);
    queues.set(id, result);
    return result;
  };
  const there = (id: string): Machine => {
    const machine = host.machines.get(id);
    if (machine) return machine;
    throw new FormationError("unavailable", "There is no such machine.", { step: "boot" });
  };
  return {
    create: (spec) =>
      alone(spec.id, "create", async () => {
        await pause(chance.between(5, 100));
        if (host.machines.has(spec.id)) return;
        if (chance.happens(0.005)) throw new FormationError("unavailable", "The disk could not be made.");
        const disk_gb = Number(spec.disk.split(" ").at(-1));
        host.truth.take(host.load, { disk_gb }, 1, `${spec.id} is made`);
        const still = { startedAt: null, listening: false, exitCode: null, exit: null, leash: null };
        host.machines.set(spec.id, { spec, disk_gb, state: "created", boots: 0, gone: new Set(), ...still });
      }),
    async start(id, { signal, onStep, leashMs }) {
      const leash = leashMs === undefined ? null : { until: elapsed() + leashMs };
      if (leash) starting.set(id, leash);
      return alone(id, "start", async () => {
        const machine = there(id);
        onStep?.("boot", "Booting.");
        if (machine.state === "running" || machine.state === "paused") return host.status(id);
        await pause(chance.between(5, 200));
        signal.throwIfAborted();
        if (chance.happens(0.01)) throw new FormationError("unavailable", "The machine did not start.");
        // A process that was paused here for too long starts nothing any more.
        if (leash?.until && leash.until <= elapsed())
          throw new FormationError("cancelled", "The machine was not started: its time is over.");
        host.begin(id, machine, leash);
        return host.status(id);
      }).finally(() => starting.delete(id));
    },
    async prolong(id, leashMs) {
      await mishap("before prolong");
      for (const leash of [starting.get(id), host.machines.get(id)?.leash])
        if (leash?.until) leash.until = elapsed() + leashMs;
    },
    async release(id) {
      await mishap("before release");
      for (const leash of [starting.get(id), host.machines.get(id)?.leash]) if (leash) leash.until = null;
      await mishap("after release");
    },
    async waitLive(id, { signal, timeoutMs }) {
      const end = elapsed() + timeoutMs;
      for (;;) {
        signal.throwIfAborted();
        const machine = there(id);
        if (machine.state !== "running") {
          throw new FormationError("invalid", "The entrypoint exited.", { step: "entrypoint", exit_code: 1 });
        }
        if (machine.listening) return host.status(id);
        if (elapsed() >= end) throw new FormationError("limit", "The guest never came up.", { step: "boot" });
        await pause(machine.startedAt === null ? 250 : 2000);
      }
    },
    stop: (id) =>
      alone(id, "stop", async () => {
        const machine = host.machines.get(id);
        if (machine?.state !== "running" && machine?.state !== "paused") return;
        await pause(chance.between(50, 2000));
        host.end(id, machine, "stopped", null);
      }),
    pause: (id) =>
      alone(id, "pause", async () => {
        const machine = there(id);
        if (machine.state === "running") machine.state = "paused";
        host.changed(id);
      }),
    resume: (id) =>
      alone(id, "resume", async () => {
        const machine = there(id);
        if (machine.state === "paused") machine.state = "running";
        host.changed(id);
      }),
    remove: (id) =>
      alone(id, "remove", async () => {
        await pause(chance.between(5, 300));
        const machine = host.machines.get(id);
        if (machine) host.forget(id, machine);
      }),
    inspect: async (id) => host.status(id),
    list: async () => [...host.machines.keys()].map((id) => host.status(id)),
    follow: (id, signal) =>
      new Promise((resolve) => {
        const gone = host.machines.get(id)?.gone;
        if (!gone) return resolve();
        const done = () => {
          gone.delete(done);
          signal.removeEventListener("abort", done);
          resolve();
        };
        gone.add(done);
        signal.addEventListener("abort", done, { once: true });
      }),
    onChange(tell) {
      const listener = { place: where, tell };
      host.listeners.add(listener);
      return () => void host.listeners.delete(listener);
    },
    recover: () => pause(chance.between(10, 500)),
    probe: async () => REPORT,
    close: async () => {},
  };
}

const REPORT: HypervisorReport = {
  driver: "simulated",
  version: "1",
  accelerator: "tcg",
  ready: true,
  problems: [],
  enforced: [],
};

function absent(id: string): MachineStatus {
  return {
    id,
    state: "absent",
    pid: null,
    accelerator: null,
    endpoints: [],
    egress: { mode: "none", reason: "There is no network here." },
    guest: { started_at: null, listening: [], exit_code: null, problem: null },
    exit: null,
    problem: null,
  };
}
