// Machines that do not come alive: the error says which step failed, and why.

import { waitFor } from "@formation-mcp/os";
import { expect, it } from "vitest";
import { type HypervisorFixture, NEVER, portOf, serving } from "./fixture.ts";
import { failureOf, leftOf, occupy } from "./probes.ts";

/** Programs that end, are missing, or never listen; ports that are taken. */
export function describeBootFailures(fixture: HypervisorFixture): void {
  it("names the exit code and the last words of a program that ends at once", async () => {
    const spec = serving("dep_d.1", fixture.disk, await fixture.harness.guestPort());
    spec.process.argv = ["sh", "-c", "echo cannot go on >&2; exit 7"];
    const error = await failureOf(fixture.run(spec));
    expect(error.code).toBe("invalid");
    expect(error.details).toMatchObject({ step: "entrypoint", exit_code: 7, log_tail: ["cannot go on"] });
    const status = await fixture.hypervisor.inspect(spec.id);
    expect(status).toMatchObject({
      state: "stopped",
      guest: { exit_code: 7 },
      exit: { reason: "guest-shutdown", code: 7 },
    });
    await fixture.hypervisor.remove(spec.id);
  });

  it("says which program is not there, or is none", async () => {
    const missing = serving("dep_e.1", fixture.disk, await fixture.harness.guestPort());
    missing.process.argv = ["no-such-program"];
    const plain = serving("dep_e.2", fixture.disk, await fixture.harness.guestPort());
    plain.process.argv = ["/srv/plain"];
    const homeless = serving("dep_e.3", fixture.disk, await fixture.harness.guestPort());
    homeless.process.workdir = "/no/where";
    const specs = [missing, plain, homeless];
    const [error, noProgram, nowhere] = await Promise.all(specs.map((spec) => failureOf(fixture.run(spec))));
    expect(error).toMatchObject({ code: "invalid", details: { step: "entrypoint", exit_code: 127 } });
    expect(error?.message).toContain("no-such-program");
    expect((await fixture.hypervisor.inspect(missing.id)).guest.problem).toContain("not found");
    expect(noProgram).toMatchObject({ code: "invalid", details: { exit_code: 126 } });
    expect(nowhere).toMatchObject({ code: "invalid", details: { step: "entrypoint" } });
    expect(nowhere?.message).toContain("/no/where");
    for (const { id } of specs) await fixture.hypervisor.remove(id);
  });

  it("does not call a listener on loopback live, and ends a program that will not", async () => {
    const guestPort = await fixture.harness.guestPort();
    const spec = serving("dep_f.1", fixture.disk, guestPort);
    spec.process.argv = [
      "/bin/sh",
      "-c",
      `trap "" TERM; busybox httpd -f -p 127.0.0.1:${guestPort} & while :; do sleep 1; done`,
    ];
    await fixture.hypervisor.create(spec);
    await fixture.hypervisor.start(spec.id, { signal: NEVER });
    await waitFor(async () => (await fixture.hypervisor.inspect(spec.id)).guest.started_at, {
      timeoutMs: fixture.harness.liveTimeoutMs,
      what: "the program to start",
    });
    const error = await failureOf(fixture.live(spec.id, 2500));
    expect(error).toMatchObject({ code: "limit", details: { step: "listen" } });
    expect(error.details.remedy).toContain("0.0.0.0");
    const gone = new AbortController();
    const waiting = failureOf(
      fixture.hypervisor.waitLive(spec.id, { signal: gone.signal, timeoutMs: 60_000 }),
    );
    gone.abort();
    expect((await waiting).code).toBe("cancelled");
    await fixture.hypervisor.stop(spec.id, { timeoutMs: 1000 });
    expect(await fixture.hypervisor.inspect(spec.id)).toMatchObject({
      state: "stopped",
      exit: { reason: "stopped", code: 137 },
    });
    await fixture.hypervisor.remove(spec.id);
  });

  it("refuses a fixed port that is taken, naming it, and gives it when it is free", async () => {
    const taken = await occupy(0);
    const spec = serving("dep_g.1", fixture.disk, await fixture.harness.guestPort());
    spec.ports = [{ guest_port: spec.ports[0]?.guest_port ?? 0, port: taken.port }];
    await fixture.hypervisor.create(spec);
    const error = await failureOf(fixture.hypervisor.start(spec.id, { signal: NEVER }));
    expect(error.code).toBe("conflict");
    expect(error.message).toContain(String(taken.port));
    await taken.close();
    const started = await fixture.hypervisor.start(spec.id, { signal: NEVER });
    expect(portOf(started)).toBe(taken.port);
    await fixture.hypervisor.remove(spec.id);
    expect(await leftOf(fixture.harness, fixture.stateDir)).toEqual([]);
  });
}
