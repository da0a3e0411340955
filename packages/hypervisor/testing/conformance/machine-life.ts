// The life of one machine, from its creation to its removal. The cases build on each other.

import type { MachineSpec, MachineStatus } from "@formation-mcp/hypervisor";
import { waitFor } from "@formation-mcp/os";
import { beforeAll, describe, expect, it } from "vitest";
import { type HypervisorFixture, NEVER, portOf, serving } from "./fixture.ts";
import { failureOf, fetchText, leftOf, occupy } from "./probes.ts";

const HOSTILE = {
  QUOTES: `it's "quoted" \`date\` $HOME \\ $(id)`,
  LINES: "one\ntwo\n\n",
  "NOT-A-NAME.x": "dots and dashes",
  EMPTY: "",
  UTF8: "naïve ☃",
};
const HOSTILE_ARGS = ["a b", "", "'", '"', "$HOME", "-n", "line\nbreak", "*", "\\", "é"];

/** The machine of these cases, and its status when it was last live. */
interface OneMachine {
  spec: MachineSpec;
  status: MachineStatus;
}

/** One machine through its whole life. */
export function describeMachineLife(fixture: HypervisorFixture): void {
  describe("one machine", () => {
    const machine = {} as OneMachine;
    beforeAll(async () => {
      const script =
        'echo first >who; printf "%s\\0" "$@" >args; cat /proc/$$/environ >env; pwd >pwd; [ -e first ] || cat /proc/uptime >first; ulimit -n >files';
      machine.spec = serving("dep_a.1", fixture.disk, await fixture.harness.guestPort(), script);
      machine.spec.process.argv.push("sh", ...HOSTILE_ARGS);
      machine.spec.process.env = HOSTILE;
    });
    describeServing(fixture, machine);
    describeStops(fixture, machine);
  });
}

/** It is created, comes alive and serves. */
function describeServing(fixture: HypervisorFixture, machine: OneMachine): void {
  it("is created once, however often that is asked, and does not run", async () => {
    await fixture.hypervisor.create(machine.spec);
    await fixture.hypervisor.create(machine.spec);
    expect((await fixture.hypervisor.inspect(machine.spec.id)).state).toBe("created");
    expect((await fixture.hypervisor.list()).map(({ id }) => id)).toEqual([machine.spec.id]);
  });

  it("serves bytes over its forwarded port once it is live", async () => {
    const steps: string[] = [];
    await fixture.hypervisor.start(machine.spec.id, { signal: NEVER });
    machine.status = await fixture.hypervisor.waitLive(machine.spec.id, {
      signal: NEVER,
      timeoutMs: fixture.harness.liveTimeoutMs,
      onStep: (step) => steps.push(step),
    });
    expect(await fetchText(portOf(machine.status), "/")).toBe("the page");
    expect(machine.status).toMatchObject({
      state: "running",
      guest: { listening: [machine.spec.ports[0]?.guest_port], exit_code: null },
    });
    expect(machine.status.guest.started_at).toBeTypeOf("number");
    expect(steps).toEqual(["boot", "entrypoint", "listen"]);
  });

  it("gives the program its arguments, environment and directory byte for byte", async () => {
    expect((await fetchText(portOf(machine.status), "/args")).split("\0").slice(0, -1)).toEqual(HOSTILE_ARGS);
    const environment = (await fetchText(portOf(machine.status), "/env")).split("\0");
    for (const [key, value] of Object.entries(HOSTILE)) expect(environment).toContain(`${key}=${value}`);
    expect((await fetchText(portOf(machine.status), "/pwd")).trim()).toMatch(/\/srv$/);
  });

  it("runs side by side with another, each with its own files", async () => {
    const other = serving("dep_b.1", fixture.disk, await fixture.harness.guestPort(), "echo second >who");
    const statuses = [machine.status, await fixture.run(other)];
    const texts = await Promise.all(statuses.map((status) => fetchText(portOf(status), "/who")));
    expect(texts).toEqual(["first\n", "second\n"]);
    await fixture.hypervisor.remove(other.id);
    expect((await fixture.hypervisor.list()).map(({ id }) => id)).toEqual([machine.spec.id]);
    expect(await fetchText(portOf(machine.status), "/who")).toBe("first\n");
  });

  it("is left alone by a second start", async () => {
    expect((await fixture.hypervisor.start(machine.spec.id, { signal: NEVER })).pid).toBe(machine.status.pid);
  });

  it("keeps its port: no other process can bind it", async () => {
    await expect(occupy(portOf(machine.status))).rejects.toThrow();
  });
}

/** It is paused, stopped, killed, started again and removed. */
function describeStops(fixture: HypervisorFixture, machine: OneMachine): void {
  it("does nothing while paused, and goes on when resumed", async () => {
    await fixture.hypervisor.pause(machine.spec.id);
    expect((await fixture.hypervisor.inspect(machine.spec.id)).state).toBe("paused");
    await expect(fetchText(portOf(machine.status), "/", 700)).rejects.toThrow();
    await fixture.hypervisor.resume(machine.spec.id);
    expect((await fixture.hypervisor.inspect(machine.spec.id)).state).toBe("running");
    expect(await fetchText(portOf(machine.status), "/")).toBe("the page");
  });

  it("stops when asked, and reports how its program ended", async () => {
    const changes: string[] = [];
    const end = fixture.hypervisor.onChange((id) => changes.push(id));
    await fixture.hypervisor.stop(machine.spec.id, { timeoutMs: 10_000 });
    await fixture.hypervisor.stop(machine.spec.id, { timeoutMs: 10_000 });
    end();
    const stopped = await fixture.hypervisor.inspect(machine.spec.id);
    expect(stopped).toMatchObject({
      state: "stopped",
      pid: null,
      exit: { reason: "stopped" },
      guest: { exit_code: 143 },
    });
    expect(changes).toContain(machine.spec.id);
    expect((await failureOf(fixture.hypervisor.pause(machine.spec.id))).code).toBe("conflict");
  });

  it("has its files and its port again after a new start", async () => {
    const before = portOf(machine.status);
    await fixture.hypervisor.start(machine.spec.id, { signal: NEVER });
    machine.status = await fixture.live(machine.spec.id);
    expect(portOf(machine.status)).toBe(before);
    const first = await fetchText(portOf(machine.status), "/first");
    expect(first).toMatch(/^[0-9.]+ /);
    expect(await fetchText(portOf(machine.status), "/")).toBe("the page");
  });

  it("is seen to be dead when its process is killed, and can be started again", async () => {
    const before = await fetchText(portOf(machine.status), "/first");
    const changed = new Promise<void>((resolve) => {
      const end = fixture.hypervisor.onChange(() => {
        end();
        resolve();
      });
    });
    process.kill(machine.status.pid ?? 0, "SIGKILL");
    await changed;
    const dead = await waitFor(
      async () => {
        const seen = await fixture.hypervisor.inspect(machine.spec.id);
        return seen.state === "stopped" && seen;
      },
      { timeoutMs: 5000, what: "the death to be seen" },
    );
    expect(dead.exit).toMatchObject({ reason: "killed" });
    await fixture.hypervisor.start(machine.spec.id, { signal: NEVER });
    machine.status = await fixture.live(machine.spec.id);
    expect(await fetchText(portOf(machine.status), "/first")).toBe(before);
  });

  it("leaves nothing when it is removed, however often", async () => {
    await fixture.hypervisor.remove(machine.spec.id);
    await fixture.hypervisor.remove(machine.spec.id);
    expect((await fixture.hypervisor.inspect(machine.spec.id)).state).toBe("absent");
    expect(await leftOf(fixture.harness, fixture.stateDir)).toEqual([]);
    await (await occupy(portOf(machine.status))).close();
  });
}
