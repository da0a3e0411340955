// The laws about a machine on a leash: it ends unless the leash is prolonged, even if the process that started
// it is dead or frozen.

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import type { Hypervisor } from "@formation-mcp/hypervisor";
import { waitFor } from "@formation-mcp/os";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import {
  failureOf,
  leftOf,
  processesIn,
  type Subject,
  serving,
  startWorker,
  type Worker,
} from "./support.ts";

/** How late a machine may end on a busy host. */
const LATE_MS = 5000;

export function describeLeashes(subject: Subject, disk: () => string): void {
  describe("on a leash", () => {
    const never = new AbortController().signal;
    /** Longer than a start takes with this driver. */
    const leashMs = Math.max(2000, subject.patienceMs / 10);
    const opened: { hypervisor: Hypervisor; directory: string }[] = [];
    const directories: string[] = [];
    const directory = () => {
      const made = mkdtempSync(join(tmpdir(), "hypervisor-"));
      directories.push(made);
      return made;
    };
    const open = async (where: string) => {
      const hypervisor = await subject.open(where);
      opened.push({ hypervisor, directory: where });
      await hypervisor.recover();
      return hypervisor;
    };
    const alive = (where: string) => processesIn(join(where, "machines")).length > 0;
    const ends = (where: string, within: number) =>
      waitFor(() => !alive(where), { timeoutMs: within + LATE_MS, everyMs: 20, what: "the machine to end" });
    let home: string;
    let hypervisor: Hypervisor;
    beforeAll(async () => {
      home = directory();
      hypervisor = await open(home);
    }, 60_000);
    afterAll(async () => {
      for (const each of opened) {
        for (const { id } of await each.hypervisor.list()) await each.hypervisor.remove(id);
        await each.hypervisor.close();
        expect(await leftOf(subject, each.directory)).toEqual([]);
      }
      for (const each of directories) rmSync(each, { recursive: true, force: true });
    }, 60_000);
    const made = async (id: string) => {
      const spec = serving(id, disk(), await subject.guestPort());
      await hypervisor.create(spec);
      return id;
    };

    it("a machine ends when nobody prolongs it, not before, and says that it was killed", async () => {
      const id = await made("dep_l.1");
      const begin = performance.now();
      await hypervisor.start(id, { signal: never, leashMs });
      await ends(home, leashMs);
      expect(performance.now() - begin).toBeGreaterThan(leashMs - 50);
      const killed = { state: "stopped", exit: { reason: "killed", leash: true } };
      expect(await hypervisor.inspect(id)).toMatchObject(killed);
      await hypervisor.prolong(id, leashMs);
      await hypervisor.release(id);
      expect((await hypervisor.inspect(id)).state).toBe("stopped");
      await hypervisor.remove(id);
      expect(await leftOf(subject, home)).toEqual([]);
    });

    it("one whose time was over before it began never begins", async () => {
      const id = await made("dep_l.2");
      expect((await failureOf(hypervisor.start(id, { signal: never, leashMs: 0 }))).code).toBe("unavailable");
      expect(alive(home)).toBe(false);
      await hypervisor.remove(id);
    });

    it("it lives as long as it is prolonged, also while it starts, and for ever once it is released", async () => {
      const id = await made("dep_l.3");
      const starting = hypervisor.start(id, { signal: never, leashMs: 50 });
      await hypervisor.prolong(id, leashMs);
      const { pid } = await starting;
      for (let round = 0; round < 3; round++) {
        await delay(leashMs * 0.6);
        expect((await hypervisor.inspect(id)).pid).toBe(pid);
        await hypervisor.prolong(id, leashMs);
      }
      await hypervisor.release(id);
      await hypervisor.prolong(id, 1);
      // The guard is gone: only the machine's process is left.
      expect(processesIn(join(home, "machines"))).toContain(pid);
      await delay(leashMs + 500);
      expect((await hypervisor.inspect(id)).pid).toBe(pid);
      await hypervisor.stop(id, { timeoutMs: 0 });
      // A later start without a leash does not get the old one.
      await hypervisor.start(id, { signal: never });
      await hypervisor.prolong(id, 1);
      await delay(1500);
      expect((await hypervisor.inspect(id)).state).toBe("running");
      await hypervisor.remove(id);
      expect(await leftOf(subject, home)).toEqual([]);
    });

    it("a leash is let go with the machine: nothing stays of one that was removed amid it", async () => {
      const id = await made("dep_l.4");
      await hypervisor.start(id, { signal: never, leashMs: 60_000 });
      await hypervisor.remove(id);
      expect(await leftOf(subject, home)).toEqual([]);
    });

    const begun = async (where: string): Promise<Worker> => {
      const spec = serving("dep_l.5", disk(), await subject.guestPort());
      const worker = startWorker(subject, { stateDir: where, spec, steps: ["create", "start"], leashMs });
      await worker.reached("done");
      expect(alive(where)).toBe(true);
      return worker;
    };

    for (const fate of ["killed", "frozen"] as const) {
      it(`a machine ends when the process that started it was ${fate}`, async () => {
        const where = directory();
        const worker = await begun(where);
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

    it("who comes after one that was killed may prolong its machine, and release it", async () => {
      const where = directory();
      const worker = await begun(where);
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
  });
}
