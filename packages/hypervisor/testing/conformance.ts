// The laws of the hypervisor port, which every driver passes. They are checked by what is visible from
// outside: bytes served, exit codes, processes, and what is left on the host.

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Hypervisor, MachineSpec, MachineStatus } from "@formation-mcp/hypervisor";
import { waitFor } from "@formation-mcp/os";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { describeCrashes } from "./conformance/crashes.ts";
import { describeLeashes } from "./conformance/leashes.ts";
import { failureOf, fetchText, leftOf, occupy, type Subject, serving } from "./conformance/support.ts";

export {
  fetchText,
  leftOf,
  processesIn,
  type Subject,
  serving,
  type WorkerOrders,
} from "./conformance/support.ts";

const HOSTILE = {
  QUOTES: `it's "quoted" \`date\` $HOME \\ $(id)`,
  LINES: "one\ntwo\n\n",
  "NOT-A-NAME.x": "dots and dashes",
  EMPTY: "",
  UTF8: "naïve ☃",
};
const HOSTILE_ARGS = ["a b", "", "'", '"', "$HOME", "-n", "line\nbreak", "*", "\\", "é"];

/** Runs the suite against a driver. */
export function describeHypervisor(name: string, subject: Subject): void {
  describe(name, { timeout: subject.patienceMs * 6 }, () => {
    let stateDir: string;
    let hypervisor: Hypervisor;
    let disk: string;
    const never = new AbortController().signal;
    const live = (id: string, timeoutMs = subject.patienceMs) =>
      hypervisor.waitLive(id, { signal: never, timeoutMs });
    const run = async (spec: MachineSpec): Promise<MachineStatus> => {
      await hypervisor.create(spec);
      await hypervisor.start(spec.id, { signal: never });
      return live(spec.id);
    };
    const port = (status: MachineStatus) => status.endpoints[0]?.port ?? 0;

    beforeAll(async () => {
      stateDir = mkdtempSync(join(tmpdir(), "hypervisor-"));
      hypervisor = await subject.open(stateDir);
      await hypervisor.recover();
      disk = await subject.disk({ "srv/index.html": "the page", "srv/plain": "no program" });
    }, 60_000);
    afterAll(async () => {
      for (const { id } of await hypervisor.list()) await hypervisor.remove(id);
      await hypervisor.close();
      rmSync(stateDir, { recursive: true, force: true });
    }, 60_000);

    it("does nothing for a machine that is not there, and says so", async () => {
      await hypervisor.stop("nobody", { timeoutMs: 1000 });
      await hypervisor.remove("nobody");
      expect((await hypervisor.inspect("nobody")).state).toBe("absent");
      expect((await failureOf(hypervisor.start("nobody", { signal: never }))).code).toBe("not_found");
      const odd = serving("../escape", disk, 80);
      expect((await failureOf(hypervisor.create(odd))).code).toBe("invalid");
    });

    describe("one machine", () => {
      let spec: MachineSpec;
      let status: MachineStatus;
      beforeAll(async () => {
        const script =
          'printf "%s\\0" "$@" >args; cat /proc/$$/environ >env; pwd >pwd; [ -e first ] || cat /proc/uptime >first; ulimit -n >files';
        spec = serving("dep_a.1", disk, await subject.guestPort(), script);
        spec.process.argv.push("sh", ...HOSTILE_ARGS);
        spec.process.env = HOSTILE;
      });

      it("is created once, however often that is asked, and does not run", async () => {
        await hypervisor.create(spec);
        await hypervisor.create(spec);
        expect((await hypervisor.inspect(spec.id)).state).toBe("created");
        expect((await hypervisor.list()).map(({ id }) => id)).toEqual([spec.id]);
      });

      it("serves bytes over its forwarded port once it is live", async () => {
        const steps: string[] = [];
        await hypervisor.start(spec.id, { signal: never });
        status = await hypervisor.waitLive(spec.id, {
          signal: never,
          timeoutMs: subject.patienceMs,
          onStep: (step) => steps.push(step),
        });
        expect(await fetchText(port(status), "/")).toBe("the page");
        expect(status).toMatchObject({
          state: "running",
          guest: { listening: [spec.ports[0]?.guest_port], exit_code: null },
        });
        expect(status.guest.started_at).toBeTypeOf("number");
        expect(steps).toEqual(["boot", "entrypoint", "listen"]);
      });

      it("gives the program its arguments, environment and directory byte for byte", async () => {
        expect((await fetchText(port(status), "/args")).split("\0").slice(0, -1)).toEqual(HOSTILE_ARGS);
        const environment = (await fetchText(port(status), "/env")).split("\0");
        for (const [key, value] of Object.entries(HOSTILE)) expect(environment).toContain(`${key}=${value}`);
        expect((await fetchText(port(status), "/pwd")).trim()).toMatch(/\/srv$/);
      });

      it("is left alone by a second start", async () => {
        expect((await hypervisor.start(spec.id, { signal: never })).pid).toBe(status.pid);
      });

      it("keeps its port to itself: nobody else can bind it", async () => {
        await expect(occupy(port(status))).rejects.toThrow();
      });

      it("holds its breath while paused, and goes on when resumed", async () => {
        await hypervisor.pause(spec.id);
        expect((await hypervisor.inspect(spec.id)).state).toBe("paused");
        await expect(fetchText(port(status), "/", 700)).rejects.toThrow();
        await hypervisor.resume(spec.id);
        expect((await hypervisor.inspect(spec.id)).state).toBe("running");
        expect(await fetchText(port(status), "/")).toBe("the page");
      });

      it("stops when asked, and reports how its program ended", async () => {
        const changes: string[] = [];
        const end = hypervisor.onChange((id) => changes.push(id));
        await hypervisor.stop(spec.id, { timeoutMs: 10_000 });
        await hypervisor.stop(spec.id, { timeoutMs: 10_000 });
        end();
        const stopped = await hypervisor.inspect(spec.id);
        expect(stopped).toMatchObject({
          state: "stopped",
          pid: null,
          exit: { reason: "stopped" },
          guest: { exit_code: 143 },
        });
        expect(changes).toContain(spec.id);
        expect((await failureOf(hypervisor.pause(spec.id))).code).toBe("conflict");
      });

      it("has its files and its port again after a new start", async () => {
        const before = port(status);
        await hypervisor.start(spec.id, { signal: never });
        status = await live(spec.id);
        expect(port(status)).toBe(before);
        const first = await fetchText(port(status), "/first");
        expect(first).toMatch(/^[0-9.]+ /);
        expect(await fetchText(port(status), "/")).toBe("the page");
      });

      it("is seen to be dead when its process is killed, and can be started again", async () => {
        const before = await fetchText(port(status), "/first");
        const changed = new Promise<void>((resolve) => {
          const end = hypervisor.onChange(() => {
            end();
            resolve();
          });
        });
        process.kill(status.pid ?? 0, "SIGKILL");
        await changed;
        const dead = await waitFor(
          async () => {
            const seen = await hypervisor.inspect(spec.id);
            return seen.state === "stopped" && seen;
          },
          { timeoutMs: 5000, what: "the death to be seen" },
        );
        expect(dead.exit).toMatchObject({ reason: "killed" });
        await hypervisor.start(spec.id, { signal: never });
        status = await live(spec.id);
        expect(await fetchText(port(status), "/first")).toBe(before);
      });

      it("leaves nothing when it is removed, however often", async () => {
        await hypervisor.remove(spec.id);
        await hypervisor.remove(spec.id);
        expect((await hypervisor.inspect(spec.id)).state).toBe("absent");
        expect(await leftOf(subject, stateDir)).toEqual([]);
        await (await occupy(port(status))).close();
      });
    });

    it("runs two machines side by side, each with its own files", async () => {
      const specs = [
        serving("dep_b.1", disk, await subject.guestPort(), "echo first >who"),
        serving("dep_b.2", disk, await subject.guestPort(), "echo second >who"),
      ];
      const statuses = await Promise.all(specs.map(run));
      const texts = await Promise.all(statuses.map((status) => fetchText(port(status), "/who")));
      expect(texts).toEqual(["first\n", "second\n"]);
      await Promise.all(specs.map(({ id }) => hypervisor.remove(id)));
      expect(await leftOf(subject, stateDir)).toEqual([]);
    });

    it("hands over each line once, tells which were too many, and keeps the files small", async () => {
      const spec = serving("dep_c.1", disk, 80);
      spec.ports = [];
      const total = 6000;
      spec.process.argv = [
        "/bin/sh",
        "-c",
        `echo to-out; echo to-err >&2; sleep 1; i=0; while [ $i -lt ${total} ]; do i=$((i+1)); echo "flood $i"; done; echo the-end; printf unfinished; exec sleep 1000`,
      ];
      const lines: [string, string][] = [];
      const stop = new AbortController();
      await hypervisor.create(spec);
      const following = hypervisor.follow(spec.id, stop.signal, (stream, line) => lines.push([stream, line]));
      await hypervisor.start(spec.id, { signal: never });
      await live(spec.id);
      const dropped = () =>
        lines
          .map(([, line]) => Number(/^\[formation\] ([0-9]+) lines dropped/.exec(line)?.[1] ?? 0))
          .reduce((a, b) => a + b, 0);
      const flood = () => lines.filter(([, line]) => line.startsWith("flood ") || line === "the-end").length;
      await waitFor(() => flood() + dropped() === total + 1, {
        timeoutMs: subject.patienceMs,
        what: "all lines",
      });
      expect(lines.filter(([, line]) => line === "to-out")).toEqual([["stdout", "to-out"]]);
      expect(lines.filter(([, line]) => line === "to-err")).toEqual([["stderr", "to-err"]]);
      stop.abort();
      await following;
      const again: string[] = [];
      const second = new AbortController();
      const more = hypervisor.follow(spec.id, second.signal, (_stream, line) => again.push(line));
      await hypervisor.stop(spec.id, { timeoutMs: 5000 });
      await waitFor(() => again.includes("unfinished"), { timeoutMs: 5000, what: "the last line" });
      expect(again.some((line) => line.startsWith("flood "))).toBe(false);
      await hypervisor.remove(spec.id);
      await more;
      second.abort();
    });

    it("names the exit code and the last words of a program that ends at once", async () => {
      const spec = serving("dep_d.1", disk, await subject.guestPort());
      spec.process.argv = ["sh", "-c", "echo cannot go on >&2; exit 7"];
      const error = await failureOf(run(spec));
      expect(error.code).toBe("invalid");
      expect(error.details).toMatchObject({ step: "entrypoint", exit_code: 7, log_tail: ["cannot go on"] });
      const status = await hypervisor.inspect(spec.id);
      expect(status).toMatchObject({
        state: "stopped",
        guest: { exit_code: 7 },
        exit: { reason: "guest-shutdown", code: 7 },
      });
      await hypervisor.remove(spec.id);
    });

    it("says which program is not there, or is none", async () => {
      const missing = serving("dep_e.1", disk, await subject.guestPort());
      missing.process.argv = ["no-such-program"];
      const error = await failureOf(run(missing));
      expect(error).toMatchObject({ code: "invalid", details: { step: "entrypoint", exit_code: 127 } });
      expect(error.message).toContain("no-such-program");
      expect((await hypervisor.inspect(missing.id)).guest.problem).toContain("not found");
      const plain = serving("dep_e.2", disk, await subject.guestPort());
      plain.process.argv = ["/srv/plain"];
      expect(await failureOf(run(plain))).toMatchObject({ code: "invalid", details: { exit_code: 126 } });
      const homeless = serving("dep_e.3", disk, await subject.guestPort());
      homeless.process.workdir = "/no/where";
      const nowhere = await failureOf(run(homeless));
      expect(nowhere).toMatchObject({ code: "invalid", details: { step: "entrypoint" } });
      expect(nowhere.message).toContain("/no/where");
      for (const { id } of [missing, plain, homeless]) await hypervisor.remove(id);
    });

    it("does not call a listener on loopback live, and ends a program that will not", async () => {
      const guestPort = await subject.guestPort();
      const spec = serving("dep_f.1", disk, guestPort);
      spec.process.argv = [
        "/bin/sh",
        "-c",
        `trap "" TERM; busybox httpd -f -p 127.0.0.1:${guestPort} & while :; do sleep 1; done`,
      ];
      await hypervisor.create(spec);
      await hypervisor.start(spec.id, { signal: never });
      await waitFor(async () => (await hypervisor.inspect(spec.id)).guest.started_at, {
        timeoutMs: subject.patienceMs,
        what: "the program to start",
      });
      const error = await failureOf(live(spec.id, 2500));
      expect(error).toMatchObject({ code: "limit", details: { step: "listen" } });
      expect(error.details.remedy).toContain("0.0.0.0");
      const gone = new AbortController();
      const waiting = failureOf(hypervisor.waitLive(spec.id, { signal: gone.signal, timeoutMs: 60_000 }));
      gone.abort();
      expect((await waiting).code).toBe("cancelled");
      await hypervisor.stop(spec.id, { timeoutMs: 1000 });
      expect(await hypervisor.inspect(spec.id)).toMatchObject({
        state: "stopped",
        exit: { reason: "stopped", code: 137 },
      });
      await hypervisor.remove(spec.id);
    });

    it("refuses a fixed port that is taken, naming it, and gives it when it is free", async () => {
      const taken = await occupy(0);
      const spec = serving("dep_g.1", disk, await subject.guestPort());
      spec.ports = [{ guest_port: spec.ports[0]?.guest_port ?? 0, port: taken.port }];
      await hypervisor.create(spec);
      const error = await failureOf(hypervisor.start(spec.id, { signal: never }));
      expect(error.code).toBe("conflict");
      expect(error.message).toContain(String(taken.port));
      await taken.close();
      const started = await hypervisor.start(spec.id, { signal: never });
      expect(port(started)).toBe(taken.port);
      await hypervisor.remove(spec.id);
      expect(await leftOf(subject, stateDir)).toEqual([]);
    });

    describeCrashes(subject, () => disk);
    describeLeashes(subject, () => disk);
  });
}
