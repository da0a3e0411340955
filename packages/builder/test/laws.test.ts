// Laws of the parsers of untrusted text.

import { FormationError } from "@formation-mcp/contract";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { BuildOutput, readFailure } from "../src/build-output.ts";
import { closedRanges, isReachable } from "../src/closed-ranges.ts";
import { renderContainerfile, safeWorkdir, shellWord } from "../src/image/containerfile.ts";
import { EMPTY_CONFIG, portsOf, processOf } from "../src/image/process.ts";
import { parseReference } from "../src/image/reference.ts";

const text = fc.string({ unit: "binary", maxLength: 60 });
const recipe = fc.record({
  owner: fc.constant("one"),
  baseId: fc.constant("a".repeat(64)),
  workdir: fc.constant("/app"),
  env: fc.dictionary(fc.stringMatching(/^[A-Z_]{1,8}$/), text, { maxKeys: 4 }),
  run: fc.array(text, { minLength: 1, maxLength: 5 }),
});

describe("a reference", () => {
  it("is completed as everywhere", () => {
    const names: Record<string, string> = {
      "debian:12": "docker.io/library/debian:12",
      "team/app": "docker.io/team/app:latest",
      "ghcr.io/x/y:v1": "ghcr.io/x/y:v1",
      "localhost:5000/x": "localhost:5000/x:latest",
      "localhost/mine": "localhost/mine:latest",
      "busybox:1.36": "docker.io/library/busybox:1.36",
      [`debian:12@sha256:${"a".repeat(64)}`]: `docker.io/library/debian@sha256:${"a".repeat(64)}`,
    };
    for (const [from, name] of Object.entries(names)) expect(parseReference(from).name).toBe(name);
    expect(parseReference("busybox").kind).toBe("busybox");
    expect(parseReference("scratch").kind).toBe("scratch");
    expect(parseReference("localhost/mine").kind).toBe("local");
    expect(parseReference("localhost:5000/x").kind).toBe("registry");
  });

  it("lets nothing through that a command line or a Containerfile would read otherwise", () => {
    fc.assert(
      fc.property(fc.oneof(text, fc.stringMatching(/^[a-zA-Z0-9.:/@_-]{0,80}$/)), (from) => {
        try {
          expect(parseReference(from).name).toMatch(/^[A-Za-z0-9[][A-Za-z0-9.:/@_[\]-]*$/);
        } catch (error) {
          expect(error).toBeInstanceOf(FormationError);
          expect((error as FormationError).code).toBe("invalid");
        }
      }),
    );
  });
});

describe("a Containerfile", () => {
  it("has one line per instruction, whatever the lines and values are", () => {
    fc.assert(
      fc.property(recipe, (one) => {
        const { text: file, steps, scripts } = renderContainerfile(one, "key");
        const lines = file.trimEnd().split(/\r?\n/);
        expect(lines).toHaveLength(2 + one.run.length);
        expect(steps).toHaveLength(1 + one.run.length);
        expect(lines.map((line) => line.split(" ")[0])).toEqual([
          "FROM",
          "COPY",
          ...one.run.map(() => "RUN"),
        ]);
        for (const [index, line] of lines.slice(2).entries()) {
          const digest = steps[index + 1]?.digest;
          const command = `. /dev/formation/env; . /dev/formation/${index + 1} #${digest}`;
          expect(JSON.parse(line.slice(4))).toEqual(["/bin/sh", "-c", command]);
          expect(digest).toMatch(/^[0-9a-f]{64}$/);
        }
        const [, ...ofLines] = scripts;
        expect(ofLines).toEqual(one.run.map((line, index) => [String(index + 1), line]));
        expect(new Set(steps.map((step) => step.named)).size).toBe(steps.length);
      }),
    );
  });

  it("says the same for the same lines and values, and something else for others or under another key", () => {
    const digests = (one: Parameters<typeof renderContainerfile>[0], key: string) =>
      renderContainerfile(one, key).steps.map((step) => step.digest);
    fc.assert(
      fc.property(recipe, text, (one, other) => {
        const before = digests(one, "key");
        expect(digests({ ...one, baseId: "b".repeat(64) }, "key")).toEqual(before);
        const changed = [
          digests(one, "another key"),
          digests({ ...one, owner: "another" }, "key"),
          digests({ ...one, env: { ...one.env, LONGER_NAME: other } }, "key"),
          digests({ ...one, workdir: "/srv" }, "key"),
          digests({ ...one, run: one.run.map((line) => `${line} `) }, "key"),
        ];
        expect(changed[1]?.filter((digest) => before.includes(digest))).toEqual([]);
        for (const after of changed) {
          expect(after.slice(1).filter((digest) => before.includes(digest))).toEqual([]);
        }
      }),
    );
  });

  it("quotes a text as one word of a shell", () => {
    fc.assert(
      fc.property(text, (value) => {
        const word = shellWord(value);
        expect(word.slice(1, -1).split("'\\''").join("'")).toBe(value);
        expect(word.replaceAll("'\\''", "").slice(1, -1)).not.toContain("'");
      }),
    );
  });

  it("takes a base's working directory only if it is harmless", () => {
    expect(safeWorkdir("")).toBe("/app");
    expect(safeWorkdir("/")).toBe("/app");
    expect(safeWorkdir("srv/x/")).toBe("/srv/x");
    expect(safeWorkdir("/srv/./x")).toBe("/srv/x");
    for (const bad of ["/a b", "/$HOME", "/a\\b", "/x/../etc", '/"', "/a\nRUN x", "/é"])
      expect(safeWorkdir(bad)).toBeNull();
  });
});

describe("what buildah prints", () => {
  it("names the step that failed and its code, whatever the step's text and output are", () => {
    fc.assert(
      fc.property(recipe, fc.nat(), text, fc.integer({ min: 1, max: 255 }), (one, pick, noise, code) => {
        const { steps } = renderContainerfile(one, "key");
        const index = 1 + (pick % one.run.length);
        const step = steps[index];
        const stderr = `${noise}Error: building at STEP "${step?.named}": while running runtime: exit status ${code}\n`;
        expect(readFailure(steps, stderr)).toMatchObject({ index, exitCode: code });
      }),
    );
  });

  it("shows every line of the run lines and none of its own", () => {
    const { steps } = renderContainerfile(
      { owner: "one", baseId: "b".repeat(64), workdir: "/app", env: {}, run: ["a", "b"] },
      "key",
    );
    const lines: string[] = [];
    const begun: string[] = [];
    const output = new BuildOutput(steps, {
      onLine: (_, line) => lines.push(line),
      onStep: (step) => begun.push(step.name),
    });
    const printed = [
      `STEP 1/4: FROM ${"b".repeat(64)}`,
      `STEP 2/4: ${steps[0]?.announced}`,
      "--> 0123456789a",
      `STEP 3/4: ${steps[1]?.announced}`,
      "user line",
      `glued${`STEP 4/4: ${steps[2]?.announced}`}`,
      "lastCOMMIT localhost/formation:x.1",
      "Successfully tagged localhost/formation:x.1",
      "c".repeat(64),
    ];
    for (const line of printed) output.line("stdout", line);
    output.line("stderr", 'warnError: building at STEP "RUN x": while');
    output.line("stderr", "more");
    output.end({ step: steps[2] as never, index: 2, exitCode: 1, reason: "" });
    expect(begun).toEqual(["include", "run 1/2", "run 2/2"]);
    expect(lines).toEqual(["user line", "glued", "last", "warn"]);
  });
});

describe("closed ranges", () => {
  const address = fc.integer({ min: 0, max: 2 ** 32 - 1 });
  const dotted = (value: number) =>
    [24, 16, 8, 0].map((shift) => Math.floor(value / 2 ** shift) % 256).join(".");
  const inRange = (value: number, cidr: string) => {
    const [network = "", bits = "32"] = cidr.split("/");
    const first = network.split(".").reduce((sum, part) => sum * 256 + Number(part), 0);
    return value >= first && value < first + 2 ** (32 - Number(bits));
  };

  it("are what is denied less what is allowed, address by address", () => {
    const cidr = fc
      .tuple(address, fc.integer({ min: 4, max: 32 }))
      .map(([value, bits]) => `${dotted(value)}/${bits}`);
    fc.assert(
      fc.property(address, address, fc.array(cidr, { maxLength: 3 }), (probe, own, allowCidrs) => {
        const closed = closedRanges({ allowCidrs, denyCidrs: [] }, [dotted(own)]);
        const aligned = allowCidrs.filter((one) => {
          const bits = Number(one.split("/")[1]);
          const size = 2 ** (32 - bits);
          const value = (one.split("/")[0] ?? "")
            .split(".")
            .reduce((sum, part) => sum * 256 + Number(part), 0);
          return probe >= Math.floor(value / size) * size && probe < Math.floor(value / size) * size + size;
        });
        const isClosed = closed.some((one) => inRange(probe, one));
        if (aligned.length === 0) {
          expect(isClosed).toBe(
            !isReachable(dotted(probe), { allowCidrs: [], denyCidrs: [] }) || probe === own,
          );
        }
      }),
    );
  });

  it("keep the host's own address closed inside an allowed network, unless it is named", () => {
    const rules = { allowCidrs: ["10.0.0.0/8"], denyCidrs: [] };
    expect(closedRanges(rules, ["10.1.1.1"])).toContain("10.1.1.1/32");
    expect(closedRanges(rules, ["10.1.1.1"])).not.toContain("10.0.0.0/8");
    expect(closedRanges({ ...rules, allowCidrs: ["10.1.1.1"] }, ["10.1.1.1"])).not.toContain("10.1.1.1/32");
  });

  it("are closed also where an IPv6 address holds them", () => {
    const rules = { allowCidrs: [], denyCidrs: [] };
    for (const address of [
      "::ffff:127.0.0.1",
      "::ffff:a9fe:a9fe",
      "::7f00:1",
      "64:ff9b::a9fe:a9fe",
      "2002:7f00:1::",
      "::1",
      "fe80::1",
    ]) {
      expect(isReachable(address, rules), address).toBe(false);
    }
    expect(isReachable("2606:4700::1111", rules)).toBe(true);
    expect(isReachable("198.51.100.1", rules)).toBe(true);
  });

  it("leave the documentation ranges open", () => {
    for (const open of ["192.0.2.80", "198.51.100.1", "203.0.113.80", "8.8.8.8"]) {
      expect(
        closedRanges({ allowCidrs: [], denyCidrs: [] }, []).some((one) => inRange(toNumber(open), one)),
      ).toBe(false);
    }
  });
});

describe("how the workload is started", () => {
  const formfile = { from: "x", entrypoint: null, env: {}, expose: [] } as never;

  it("takes from a base only what a shell can export", () => {
    const base = { ...EMPTY_CONFIG, cmd: ["x"], env: ["A=1=2", "B C=3", "=4", "D", "E=a\nb", "F=\0"] };
    const { env } = processOf(formfile, base, "/app");
    expect(env).toEqual({ PATH: expect.any(String), A: "1=2", E: "a\nb" });
  });

  it("exposes the base's TCP ports in order when the formfile names none", () => {
    expect(portsOf(formfile, { ...EMPTY_CONFIG, ports: ["9000", "53/udp", "80/tcp", "70000", "x"] })).toEqual(
      [80, 9000],
    );
  });
});

function toNumber(address: string): number {
  return address.split(".").reduce((sum, part) => sum * 256 + Number(part), 0);
}
