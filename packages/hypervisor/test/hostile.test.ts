import { execFileSync } from "node:child_process";
import { appendFileSync, mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { LIMITS } from "@formation-mcp/contract";
import type { MachineSpec } from "@formation-mcp/hypervisor";
import { openFakeHypervisor } from "@formation-mcp/hypervisor/fake";
import { serving } from "@formation-mcp/hypervisor/testing/conformance";
import { waitFor } from "@formation-mcp/os";
import { freePort } from "@formation-mcp/os/testing/free-port";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { emptyReport, parseStatus } from "../src/guest/status-report.ts";
import { createLogSplitter } from "../src/logs/lines.ts";
import { makeRootfs } from "./support/rootfs.ts";

const MB = 1024 * 1024;
const event = fc
  .oneof(
    fc.record({
      ev: fc.constantFrom("started", "listen", "stopping", "problem", "exit", "none"),
      ports: fc.oneof(fc.stringMatching(/^( [0-9A-F]{4}){0,9}$/), fc.anything()),
      loopback: fc.anything(),
      what: fc.oneof(fc.stringMatching(/^[a-z_]{0,40}$/), fc.anything()),
      code: fc.oneof(fc.integer(), fc.double(), fc.anything()),
    }),
    fc.anything(),
  )
  .map((value) => {
    try {
      return JSON.stringify(value) ?? "";
    } catch {
      return "{";
    }
  });
const line = fc.oneof(
  event,
  fc.string({ unit: "binary" }),
  fc.nat(9000).map((length) => "x".repeat(length)),
);
/** As the driver reads it: one character for each byte. */
const text = fc.array(line).map((lines) => Buffer.from(lines.join("\n")).toString("latin1"));

describe("whatever a guest writes on its status channel", () => {
  it("becomes a report of known shape and bounded size, or nothing", () => {
    fc.assert(
      fc.property(text, (said) => {
        const report = parseStatus(said);
        expect(Object.keys(report).sort()).toEqual(Object.keys(emptyReport()).sort());
        expect(JSON.stringify(report).length).toBeLessThan(12_000);
        expect(report.exit_code === null || (report.exit_code >= 0 && report.exit_code < 256)).toBe(true);
        expect(report.problem ?? "none").toMatch(/^[a-z_]{1,32}$/);
        for (const ports of [report.listening, report.loopback]) {
          expect(ports).toEqual([...new Set(ports)].sort((a, b) => a - b));
          expect(ports.every((port) => Number.isInteger(port) && port >= 0 && port < 65_536)).toBe(true);
        }
      }),
      { numRuns: 300 },
    );
  });
  it("means the same however the bytes were cut at line ends", () => {
    fc.assert(
      fc.property(text, text, (first, second) => {
        const whole = parseStatus(`${first}\n${second}\n`);
        expect(parseStatus(`${second}\n`, parseStatus(`${first}\n`))).toEqual(whole);
      }),
    );
  });
});

describe("whatever a guest prints", () => {
  it("comes as lines of bounded length, and nothing of it is kept beyond one", () => {
    const chunk = fc.oneof(
      fc.uint8Array(),
      fc.nat(3 * LIMITS.logLineBytes).map((length) => new Uint8Array(length).fill(0xff)),
    );
    fc.assert(
      fc.property(fc.array(chunk), (chunks) => {
        const splitter = createLogSplitter((each) => {
          expect(each.length).toBeLessThanOrEqual(LIMITS.logLineBytes);
          expect(each).not.toContain("\n");
        });
        for (const bytes of chunks) {
          splitter.push(Buffer.from(bytes));
          expect(splitter.pending).toBeLessThanOrEqual(LIMITS.logLineBytes);
        }
      }),
    );
  });
});

describe("a machine whose guest is hostile", { timeout: 60_000 }, () => {
  let work: string;
  let rootfs: string;
  const { signal } = new AbortController();
  const open = () => openFakeHypervisor({ stateDir: join(work, "state") });
  const channel = (id: string, file: string) => join(work, "state/machines", id, "run", file);
  const onDisk = (path: string) => statSync(path).blocks * 512;
  let spec: MachineSpec;
  beforeAll(async () => {
    work = mkdtempSync(join(tmpdir(), "hypervisor-"));
    rootfs = makeRootfs({ "srv/index.html": "the page" });
    const disk = join(work, "disk.json");
    writeFileSync(disk, JSON.stringify({ rootfs }));
    spec = serving("hostile.1", disk, await freePort());
  });
  afterAll(() => {
    for (const path of [work, rootfs]) rmSync(path, { recursive: true, force: true });
  });

  it("is believed nothing about ports that it does not expose, and its reports take no room", async () => {
    const hypervisor = await open();
    await hypervisor.recover();
    try {
      await hypervisor.create(spec);
      await hypervisor.start(spec.id, { signal });
      await hypervisor.waitLive(spec.id, { signal, timeoutMs: 20_000 });
      const path = channel(spec.id, "status");
      const lie = '{"ev":"listen","ports":" 0016 0050","loopback":""}\n{"ev":"problem","what":"../../etc"}\n';
      for (let at = 0; at < 40; at++)
        appendFileSync(path, at % 2 ? lie.repeat(10_000) : Buffer.alloc(MB, 0xfe));
      appendFileSync(path, `\n{"ev":"stopping"}\n${lie}`);
      await waitFor(async () => (await hypervisor.inspect(spec.id)).guest.listening.length === 0, {
        timeoutMs: 10_000,
        what: "the last lie to be read",
      });
      const status = await hypervisor.inspect(spec.id);
      expect(status).toMatchObject({ state: "running", problem: null, guest: { problem: null } });
      await waitFor(() => onDisk(path) < 2 * MB, { timeoutMs: 20_000, what: "its reports to be dropped" });
      await hypervisor.stop(spec.id, { timeoutMs: 5000 });
      expect((await hypervisor.inspect(spec.id)).exit).toEqual({ reason: "stopped", code: 143 });
    } finally {
      await hypervisor.close();
    }
  });

  it("leaves gigabytes of log to a worker that comes back: the newest stay, the rest goes unread", async () => {
    const path = channel(spec.id, "out");
    execFileSync("fallocate", ["--length", String(2048 * MB), path]);
    appendFileSync(path, "\nthe last word\n");
    const hypervisor = await open();
    try {
      await hypervisor.recover();
      expect(onDisk(path)).toBeLessThanOrEqual(2 * LIMITS.logBytesPerStream + MB);
      const end = new AbortController();
      const lines: string[] = [];
      const following = hypervisor.follow(spec.id, end.signal, (_stream, each) => lines.push(each));
      await waitFor(() => lines.includes("the last word"), { timeoutMs: 10_000, what: "the last word" });
      end.abort();
      await following;
      expect(lines.every((each) => each.length <= LIMITS.logLineBytes)).toBe(true);
      await hypervisor.remove(spec.id);
    } finally {
      await hypervisor.close();
    }
  });
});
