// The leash of a machine: the machine ends by itself when its leash is not prolonged in time, even if the
// worker that started it was killed or frozen. Most machines here are paused at once: a leash ends a machine
// whatever its guest does, and a guest that does not boot costs no CPU.

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import type { Hypervisor } from "@formation-mcp/hypervisor";
import { waitFor } from "@formation-mcp/os";
import { afterAll, beforeAll, expect, it } from "vitest";
import { type HypervisorFixture, NEVER, serving } from "./fixture.ts";
import { failureOf, leftOf, processesIn } from "./probes.ts";
import { startWorker, type Worker, type WorkerOrders } from "./worker-process.ts";

/** How late a machine may end on a busy host. */
const LATE_MS = 5000;

/** Drivers on state directories of their own, closed and checked for leftovers after the cases. */
interface LeashFixture {
  readonly fixture: HypervisorFixture;
  /** How long a leash lasts here: longer than a start takes. */
  readonly leashMs: number;
  /** The state directory of `hypervisor`. */
  readonly home: string;
  readonly hypervisor: Hypervisor;
  /** Makes a state directory. */
  directory(): string;
  open(stateDir: string): Promise<Hypervisor>;
  /** Creates a machine at home and returns its id. */
  make(id: string): Promise<string>;
}

const alive = (stateDir: string) => processesIn(join(stateDir, "machines")).length > 0;
const ends = (stateDir: string, withinMs: number) =>
  waitFor(() => !alive(stateDir), { timeoutMs: withinMs + LATE_MS, everyMs: 20, what: "the machine to end" });

/** Opens a driver before the cases of the enclosing `describe`. */
export function useLeashes(fixture: HypervisorFixture): LeashFixture {
  const opened: { hypervisor: Hypervisor; stateDir: string }[] = [];
  const directories: string[] = [];
  let home: string;
  let hypervisor: Hypervisor;
  const directory = () => {
    const made = mkdtempSync(join(tmpdir(), "hypervisor-"));
    directories.push(made);
    return made;
  };
  const open = async (stateDir: string) => {
    const driver = await fixture.harness.open(stateDir);
    opened.push({ hypervisor: driver, stateDir });
    await driver.recover();
    return driver;
  };
  beforeAll(async () => {
    home = directory();
    hypervisor = await open(home);
  }, 60_000);
  afterAll(async () => {
    for (const each of opened) {
      for (const { id } of await each.hypervisor.list()) await each.hypervisor.remove(id);
      await each.hypervisor.close();
      expect(await leftOf(fixture.harness, each.stateDir)).toEqual([]);
    }
    for (const path of directories) rmSync(path, { recursive: true, force: true });
  }, 60_000);
  return {
    fixture,
    leashMs: Math.max(2000, fixture.harness.liveTimeoutMs / 10),
    get home() {
      return home;
    },
    get hypervisor() {
      return hypervisor;
    },
    directory,
    open,
    async make(id) {
      await hypervisor.create(serving(id, fixture.disk, await fixture.harness.guestPort()));
      return id;
    },
  };
}

/** What a leash does while its worker lives. */
export function describeLeash(leashes: LeashFixture): void {
  const { fixture, leashMs, make } = leashes;
  it("a machine that is not prolonged ends then, not before, and says that it was killed", async () => {
    const id = await make("dep_l.1");
    const begin = performance.now();
    await leashes.hypervisor.start(id, { signal: NEVER, leashMs });
    await leashes.hypervisor.pause(id);
    await ends(leashes.home, leashMs);
    expect(performance.now() - begin).toBeGreaterThan(leashMs - 50);
    const killed = { state: "stopped", exit: { reason: "killed", leash: true } };
    expect(await leashes.hypervisor.inspect(id)).toMatchObject(killed);
    await leashes.hypervisor.prolong(id, leashMs);
    await leashes.hypervisor.release(id);
    expect((await leashes.hypervisor.inspect(id)).state).toBe("stopped");
    await leashes.hypervisor.remove(id);
    expect(await leftOf(fixture.harness, leashes.home)).toEqual([]);
  });

  it("a machine whose time is over before it starts never starts", async () => {
    const id = await make("dep_l.2");
    expect((await failureOf(leashes.hypervisor.start(id, { signal: NEVER, leashMs: 0 }))).code).toBe(
      "unavailable",
    );
    expect(alive(leashes.home)).toBe(false);
    await leashes.hypervisor.remove(id);
  });

  it("a machine lives while it is prolonged, also during its start, and for ever once it is released", async () => {
    const id = await make("dep_l.3");
    const starting = leashes.hypervisor.start(id, { signal: NEVER, leashMs: 50 });
    await leashes.hypervisor.prolong(id, leashMs);
    const { pid } = await starting;
    await leashes.hypervisor.pause(id);
    for (let round = 0; round < 3; round++) {
      await delay(leashMs * 0.6);
      expect((await leashes.hypervisor.inspect(id)).pid).toBe(pid);
      await leashes.hypervisor.prolong(id, leashMs);
    }
    await leashes.hypervisor.release(id);
    await leashes.hypervisor.prolong(id, 1);
    // The guard process has ended: only the machine is left.
    expect(processesIn(join(leashes.home, "machines"))).toContain(pid);
    await delay(leashMs + 500);
    expect((await leashes.hypervisor.inspect(id)).pid).toBe(pid);
    await leashes.hypervisor.stop(id, { timeoutMs: 0 });
    // A later start without a leash has none.
    await leashes.hypervisor.start(id, { signal: NEVER });
    await leashes.hypervisor.pause(id);
    await leashes.hypervisor.prolong(id, 1);
    await delay(1500);
    expect((await leashes.hypervisor.inspect(id)).state).toBe("paused");
    await leashes.hypervisor.remove(id);
    expect(await leftOf(fixture.harness, leashes.home)).toEqual([]);
  });

  it("removing a machine removes its leash", async () => {
    const id = await make("dep_l.4");
    await leashes.hypervisor.start(id, { signal: NEVER, leashMs: 60_000 });
    await leashes.hypervisor.remove(id);
    expect(await leftOf(fixture.harness, leashes.home)).toEqual([]);
  });
}

/** What a leash does when its worker does not. */
export function describeAbandonedMachines(leashes: LeashFixture): void {
  const { fixture, leashMs, directory, open } = leashes;
  const begin = async (where: string, steps: WorkerOrders["steps"]): Promise<Worker> => {
    const spec = serving("dep_l.5", fixture.disk, await fixture.harness.guestPort());
    const worker = startWorker(fixture.harness, {
      stateDir: where,
      spec,
      steps,
      leashMs,
    });
    await worker.reached("done");
    expect(alive(where)).toBe(true);
    return worker;
  };

  for (const fate of ["killed", "frozen"] as const) {
    it(`a machine ends when the process that started it was ${fate}`, async () => {
      const where = directory();
      const paused = fate === "frozen" ? (["pause"] as const) : [];
      const worker = await begin(where, ["create", "start", ...paused]);
      if (fate === "killed") await worker.kill();
      else worker.freeze();
      await ends(where, leashMs);
      await worker.kill();
      const next = await open(where);
      expect(await next.inspect("dep_l.5")).toMatchObject({
        state: "stopped",
        exit: { reason: "killed", leash: true },
      });
    });
  }

  it("the successor of a killed worker can prolong its machine, and release it", async () => {
    const where = directory();
    const worker = await begin(where, ["create", "start", "pause"]);
    await worker.kill();
    const next = await open(where);
    const { pid } = await next.inspect("dep_l.5");
    await next.prolong("dep_l.5", leashMs * 2);
    await delay(leashMs);
    expect((await next.inspect("dep_l.5")).pid).toBe(pid);
    await next.release("dep_l.5");
    await delay(leashMs * 1.2);
    expect((await next.inspect("dep_l.5")).pid).toBe(pid);
  });
}
