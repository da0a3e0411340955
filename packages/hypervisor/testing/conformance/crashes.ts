// A worker that is killed at any moment: its successor takes over what runs, and nothing half-made stays.

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { seededRandom } from "@formation-mcp/base/testing/seeded-random";
import type { Hypervisor } from "@formation-mcp/hypervisor";
import { waitFor } from "@formation-mcp/os";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type HypervisorFixture, NEVER, portOf, serving } from "./fixture.ts";
import { fetchText, leftOf } from "./probes.ts";
import { startWorker } from "./worker-process.ts";

/** Workers that are killed with SIGKILL. */
export function describeCrashes(fixture: HypervisorFixture): void {
  const { harness } = fixture;
  describe("after the worker was killed", () => {
    let elsewhere: string;
    beforeAll(() => {
      elsewhere = mkdtempSync(join(tmpdir(), "hypervisor-"));
    });
    afterAll(() => rmSync(elsewhere, { recursive: true, force: true }));
    const successor = async <T>(use: (next: Hypervisor) => Promise<T>): Promise<T> => {
      const next = await harness.open(elsewhere);
      try {
        await next.recover();
        return await use(next);
      } finally {
        await next.close();
      }
    };

    it("a running machine is taken back, answers, and obeys", async () => {
      const spec = serving("dep_h.1", fixture.disk, await harness.guestPort(), "echo still here");
      const worker = startWorker(harness, {
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
        expect(await fetchText(portOf(status), "/")).toBe("the page");
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
      expect(await leftOf(harness, elsewhere)).toEqual([]);
    });

    const random = seededRandom(20_261_123);
    for (let round = 0; round < harness.kills.rounds; round++) {
      // Every other kill is early, while the machine is made and started.
      const afterMs = Math.round(
        random() * (round % 2 === 0 ? harness.kills.withinMs / 12 : harness.kills.withinMs),
      );
      it(`${afterMs} ms into a machine's life, nothing contradicts itself and nothing stays`, async () => {
        const spec = serving(`dep_k.${round}`, fixture.disk, await harness.guestPort());
        const worker = startWorker(harness, {
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
          // A running one comes alive. If it was being stopped, it may come alive or say that it was stopped.
          if (state === "running") {
            const live = next.waitLive(spec.id, { signal: NEVER, timeoutMs: harness.liveTimeoutMs });
            if (last === "stop")
              await live.catch((error) => expect(error).toMatchObject({ code: "cancelled" }));
            else await live;
          }
          await next.remove(spec.id);
        });
        expect(await leftOf(harness, elsewhere)).toEqual([]);
      });
    }
  });
}

/**
 * The states that a successor may find after the worker died in a step. `again`: the machine was started
 * twice.
 */
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
