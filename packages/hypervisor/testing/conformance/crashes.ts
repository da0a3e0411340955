// The laws about a worker that dies at any moment: its successor takes back the machines that run, and
// nothing half-made stays.

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { seededRandom } from "@formation-mcp/base/testing/seeded-random";
import type { Hypervisor, MachineStatus } from "@formation-mcp/hypervisor";
import { waitFor } from "@formation-mcp/os";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { fetchText, leftOf, type Subject, serving, startWorker } from "./support.ts";

export function describeCrashes(subject: Subject, disk: () => string): void {
  describe("after the worker was killed", () => {
    const never = new AbortController().signal;
    const port = (status: MachineStatus) => status.endpoints[0]?.port ?? 0;
    let elsewhere: string;
    beforeAll(() => {
      elsewhere = mkdtempSync(join(tmpdir(), "hypervisor-"));
    });
    afterAll(() => rmSync(elsewhere, { recursive: true, force: true }));
    const successor = async <T>(use: (next: Hypervisor) => Promise<T>): Promise<T> => {
      const next = await subject.open(elsewhere);
      try {
        await next.recover();
        return await use(next);
      } finally {
        await next.close();
      }
    };

    it("a running machine is taken back, answers, and obeys", async () => {
      const spec = serving("dep_h.1", disk(), await subject.guestPort(), "echo still here");
      const worker = startWorker(subject, {
        stateDir: elsewhere,
        spec,
        steps: ["create", "start", "live"],
      });
      await worker.reached("done");
      await worker.kill();
      await successor(async (next) => {
        const status = await next.inspect(spec.id);
        expect(status).toMatchObject({
          state: "running",
          guest: { listening: [spec.ports[0]?.guest_port] },
        });
        expect(await fetchText(port(status), "/")).toBe("the page");
        const lines: string[] = [];
        const end = new AbortController();
        const following = next.follow(spec.id, end.signal, (_stream, line) => lines.push(line));
        await waitFor(() => lines.includes("still here"), { timeoutMs: 5000, what: "its line" });
        end.abort();
        await following;
        await next.pause(spec.id);
      });
      await successor(async (next) => {
        expect((await next.inspect(spec.id)).state).toBe("paused");
        await next.stop(spec.id, { timeoutMs: 10_000 });
        expect(await next.inspect(spec.id)).toMatchObject({
          state: "stopped",
          exit: { reason: "stopped", code: 143 },
        });
        await next.remove(spec.id);
      });
      expect(await leftOf(subject, elsewhere)).toEqual([]);
    });

    const random = seededRandom(20_261_123);
    for (let round = 0; round < subject.kills.rounds; round++) {
      // Every other kill is early, while the machine is made and started.
      const afterMs = Math.round(
        random() * (round % 2 === 0 ? subject.kills.withinMs / 12 : subject.kills.withinMs),
      );
      it(`${afterMs} ms into a machine's life, nothing contradicts itself and nothing stays`, async () => {
        const spec = serving(`dep_k.${round}`, disk(), await subject.guestPort());
        const worker = startWorker(subject, {
          stateDir: elsewhere,
          spec,
          steps: ["create", "start", "live", "stop", "start", "remove"],
        });
        await worker.reached("create");
        await new Promise((resolve) => setTimeout(resolve, afterMs));
        const begun = await worker.kill();
        const last = begun.at(-1);
        await successor(async (next) => {
          const { state } = await next.inspect(spec.id);
          const again = begun.includes("stop");
          expect({ last, again, state }).toEqual({
            last,
            again,
            state: expect.stringMatching(statesAfter(last, again)) as string,
          });
          // A machine that runs becomes live. If the worker died in a stop, it may also say that it was stopped.
          if (state === "running") {
            const live = next.waitLive(spec.id, { signal: never, timeoutMs: subject.patienceMs });
            if (last === "stop")
              await live.catch((error) => expect(error).toMatchObject({ code: "cancelled" }));
            else await live;
          }
          await next.remove(spec.id);
        });
        expect(await leftOf(subject, elsewhere)).toEqual([]);
      });
    }
  });
}

/** The states that a successor may find after the worker died in a step; `again`: after the second start. */
function statesAfter(step: string | undefined, again: boolean): RegExp {
  switch (step) {
    case "create":
      return /^(absent|created)$/;
    case "start":
      return again ? /^(running|stopped)$/ : /^(created|running|stopped)$/;
    case "live":
      return /^running$/;
    case "stop":
      return /^(running|stopped)$/;
    case "remove":
      return /^(absent|running)$/;
    default:
      return /^absent$/;
  }
}
