// The log lines of a machine, as a follower gets them.

import { waitFor } from "@formation-mcp/os";
import { expect, it } from "vitest";
import { type HypervisorFixture, NEVER, serving } from "./fixture.ts";

/** Each line once, also of a program that prints too much. */
export function describeLogs(fixture: HypervisorFixture): void {
  it("hands over each line once, tells which were too many, and keeps the files small", async () => {
    const spec = serving("dep_c.1", fixture.disk, 80);
    spec.ports = [];
    const total = 6000;
    spec.process.argv = [
      "/bin/sh",
      "-c",
      `echo to-out; echo to-err >&2; sleep 1; i=0; while [ $i -lt ${total} ]; do i=$((i+1)); echo "flood $i"; done; echo the-end; printf unfinished; exec sleep 1000`,
    ];
    const lines: [string, string][] = [];
    const stop = new AbortController();
    await fixture.hypervisor.create(spec);
    const following = fixture.hypervisor.follow(spec.id, stop.signal, (stream, line) =>
      lines.push([stream, line]),
    );
    await fixture.hypervisor.start(spec.id, { signal: NEVER });
    await fixture.live(spec.id);
    const dropped = () =>
      lines
        .map(([, line]) => Number(/^\[formation\] ([0-9]+) lines dropped/.exec(line)?.[1] ?? 0))
        .reduce((a, b) => a + b, 0);
    const flood = () => lines.filter(([, line]) => line.startsWith("flood ") || line === "the-end").length;
    await waitFor(() => flood() + dropped() === total + 1, {
      timeoutMs: fixture.harness.liveTimeoutMs,
      what: "all lines",
    });
    expect(lines.filter(([, line]) => line === "to-out")).toEqual([["stdout", "to-out"]]);
    expect(lines.filter(([, line]) => line === "to-err")).toEqual([["stderr", "to-err"]]);
    stop.abort();
    await following;
    const again: string[] = [];
    const second = new AbortController();
    const more = fixture.hypervisor.follow(spec.id, second.signal, (_stream, line) => again.push(line));
    await fixture.hypervisor.stop(spec.id, { timeoutMs: 5000 });
    await waitFor(() => again.includes("unfinished"), { timeoutMs: 5000, what: "the last line" });
    expect(again.some((line) => line.startsWith("flood "))).toBe(false);
    await fixture.hypervisor.remove(spec.id);
    await more;
    second.abort();
  });
}
