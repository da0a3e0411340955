import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { withoutControls } from "@formation-mcp/base";
import { LIMITS } from "@formation-mcp/contract";
import { openQemuHypervisor } from "@formation-mcp/hypervisor/qemu";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { quote } from "../src/guest/config.ts";
import { cpio } from "../src/guest/cpio.ts";
import { parseStatus } from "../src/guest/status-report.ts";
import { createLogSplitter, LineRate } from "../src/logs/lines.ts";
import { kernelCommandLine, qemuArguments } from "../src/qemu/command-line.ts";
import { chainRules } from "../src/qemu/firewall-rules.ts";

const settings = {
  name: "formation-x.1",
  accelerator: "tcg",
  vcpus: 2,
  memory_mb: 512,
  bindAddress: "127.0.0.1",
  forwards: [{ guest_port: 80, port: 20_080 }],
  egress: false,
} as const;
const after = (args: string[], option: string) =>
  args.flatMap((arg, at) => (args[at - 1] === option ? [arg] : []));

describe("QEMU's command line", () => {
  it("keeps the guest in unless it may out, and forwards each port to the bound address alone", () => {
    expect(after(qemuArguments(settings), "-netdev")).toEqual([
      "user,id=n0,ipv6=off,restrict=on,hostfwd=tcp:127.0.0.1:20080-:80",
    ]);
    const open = { ...settings, egress: true, bindAddress: "::1", forwards: [] };
    expect(after(qemuArguments(open), "-netdev")).toEqual(["user,id=n0,ipv6=off,restrict=off"]);
  });
  it("has the sandbox, and no absolute path", () => {
    const args = qemuArguments(settings);
    expect(after(args, "-sandbox")).toEqual([
      "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
    ]);
    expect(args.filter((arg) => /(^|=)\//.test(arg))).toEqual([]);
  });
  it("keeps the processor's mitigations where a real processor runs the guest", () => {
    expect(kernelCommandLine({ accelerator: "kvm", vcpus: 1 })).not.toContain("mitigations=off");
    expect(kernelCommandLine({ accelerator: "tcg", vcpus: 4 })).toMatch(/mitigations=off.* nr_cpus=4$/);
    expect(after(qemuArguments({ ...settings, accelerator: "kvm" }), "-accel")).toEqual(["kvm"]);
  });
});

describe("a guest's archive", () => {
  it("unpacks to what was put in, also when another follows", () => {
    const directory = mkdtempSync(join(tmpdir(), "cpio-"));
    try {
      const first = cpio([
        { path: "a", mode: 0o755 },
        { path: "a/b", mode: 0o640, data: Buffer.from("odd") },
      ]);
      const second = cpio([{ path: "a/l", mode: 0o777, link: "b" }]);
      expect([first.length % 512, second.length % 512]).toEqual([0, 0]);
      for (const archive of [first, second]) {
        execFileSync("/bin/busybox", ["cpio", "-i"], {
          cwd: directory,
          input: archive,
          stdio: ["pipe", "ignore", "ignore"],
        });
      }
      expect(readFileSync(join(directory, "a/l"), "utf8")).toBe("odd");
    } finally {
      rmSync(directory, { recursive: true, force: true });
    }
  });
  it("quotes any word so that a shell reads exactly it", () => {
    const word = fc.string({ unit: "binary" }).filter((text) => !text.includes("\0"));
    fc.assert(
      fc.property(fc.array(word, { maxLength: 5 }), (words) => {
        const said = execFileSync("/bin/busybox", ["sh"], {
          input: `for w in ${words.map(quote).join(" ")}; do printf '%s\\0' "$w"; done`,
        });
        expect(said).toEqual(Buffer.from(words.map((one) => `${one}\0`).join("")));
      }),
      { numRuns: 40 },
    );
  });
});

describe("what a guest reports", () => {
  it("is believed where it has the known shape", () => {
    const report = parseStatus(
      '{"up":1,"ev":"started","pid":9}\n{"up":2,"ev":"listen","ports":" 1F90 0050","loopback":" 1538"}\n{"ev":"exit"',
    );
    expect(report).toMatchObject({ started: true, listening: [80, 8080], loopback: [5432], exit_code: null });
  });
  it("never harms, whatever it is", () => {
    const line = fc.oneof(
      fc.string(),
      fc.json(),
      fc.constant('{"ev":"exit","code":1e9}'),
      fc.constant('{"ev":"listen","ports":[1]}'),
    );
    fc.assert(
      fc.property(fc.array(line), (lines) => {
        const report = parseStatus(lines.map((one) => `${one}\n`).join(""));
        expect(report.exit_code === null || (report.exit_code >= 0 && report.exit_code < 256)).toBe(true);
        expect(report.listening.every((port) => port >= 0 && port < 65_536)).toBe(true);
      }),
    );
  });
});

describe("log lines", () => {
  it("are the same however the bytes were cut into pieces", () => {
    fc.assert(
      fc.property(fc.array(fc.string()), fc.array(fc.nat(40)), (texts, cuts) => {
        const lines = texts.map((text) => text.replace(/[\r\n]/g, ""));
        const bytes = Buffer.from(lines.map((text) => `${text}\n`).join(""));
        const seen: string[] = [];
        const splitter = createLogSplitter((text) => seen.push(text));
        let at = 0;
        for (const cut of [...cuts, bytes.length]) {
          splitter.push(bytes.subarray(at, at + cut));
          at += cut;
        }
        expect(seen).toEqual(bytes.toString().split("\n").slice(0, -1));
        expect(splitter.pending).toBe(0);
      }),
    );
  });
  it("that never end are cut, and hold nothing up", () => {
    const seen: string[] = [];
    const splitter = createLogSplitter((text) => seen.push(text));
    for (let at = 0; at < 10; at++) splitter.push(Buffer.alloc(LIMITS.logLineBytes, 97));
    expect(seen.map(({ length }) => length)).toEqual([LIMITS.logLineBytes]);
    expect(splitter.pending).toBe(0);
    splitter.push(Buffer.from("rest\nnext\n"));
    expect(seen.slice(1)).toEqual(["next"]);
  });
  it("beyond 2,000 in a second are dropped and counted", () => {
    let now = 5000;
    const rate = new LineRate(() => now);
    const passed = Array.from({ length: 2500 }, () => rate.admit()).filter(Boolean).length;
    expect([passed, rate.takeDropped()]).toEqual([2000, 0]);
    now += 1000;
    expect([rate.takeDropped(), rate.takeDropped(), rate.admit()]).toEqual([500, 0, true]);
  });
  it("lose their terminal escapes where firmware and kernels write them", () => {
    expect(withoutControls("\u001bc\u001b[?7l\u001b[2J\u001b[0mSeaBIOS\ta\u0007")).toBe("SeaBIOS\ta");
  });
});

describe("the packet filter", () => {
  const rules = (family: 4 | 6) =>
    chainRules(family, {
      allowCidrs: ["10.1.0.0/16"],
      denyCidrs: ["203.0.113.0/24", "2001:db8::/32"],
      resolvers: ["10.0.0.53", "fd00::53"],
    });
  it("accepts answers first, denies before it allows, and the host's own addresses before either", () => {
    const at = (part: string) => rules(4).findIndex((rule) => rule.includes(part));
    expect(at("ESTABLISHED")).toBe(0);
    const order = [at("10.0.0.53"), at("203.0.113.0/24"), at("LOCAL"), at("10.1.0.0/16"), at("10.0.0.0/8")];
    expect(order).toEqual([...order].sort((a, b) => a - b));
    expect(order.includes(-1)).toBe(false);
  });
  it("leaves the documentation ranges open, and keeps the families apart", () => {
    for (const range of ["192.0.2.", "198.51.100.", "2001:db8"]) expect(rules(4).join()).not.toContain(range);
    expect(rules(6).join()).toContain("fd00::53");
    expect(rules(6).join()).not.toContain("10.1.0.0");
  });
  it("closes the ways in which an IPv6 address holds an IPv4 one", () => {
    for (const range of ["::ffff:0:0/96", "64:ff9b::/96", "2002::/16"])
      expect(rules(6)).toContain(`-d ${range} -j REJECT`);
  });
  it("refuses a network that is none", async () => {
    const stateDir = mkdtempSync(join(tmpdir(), "hypervisor-"));
    try {
      for (const wrong of ["10.0.0.0/33", "example.org", "10.0.0.0/8 -j ACCEPT", "::/129"])
        await expect(openQemuHypervisor({ stateDir, allowCidrs: [wrong] })).rejects.toThrow(/CIDR/);
    } finally {
      rmSync(stateDir, { recursive: true, force: true });
    }
  });
});
