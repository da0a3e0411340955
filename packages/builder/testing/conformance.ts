// What every builder driver must do, told as laws and checked by effects: what a disk holds, what a build printed, what is
// left behind. A driver says only how it is opened and how a file is read from one of its disks.

import { existsSync, rmSync } from "node:fs";
import { FormationError, LIMITS } from "@formation-mcp/contract";
import { waitFor } from "@formation-mcp/os";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { describeFaults } from "./conformance/faults.ts";
import { type BuilderUnderTest, ended, Fixture, processesWith } from "./conformance/fixture.ts";
import { describeTransfers } from "./conformance/transfers.ts";

export type { BuilderUnderTest } from "./conformance/fixture.ts";

const HOSTILE = [
  "it's",
  '"quoted" $HOME $PATH `id` $(id)',
  "back\\slash\\",
  "line\nFROM evil\nRUN touch /evil\n",
  "<<EOF\nEOF\n",
  "# comment \u00e9\u{1F600} %s",
];

/** Runs the suite against a driver. */
export function describeBuilder(name: string, driver: BuilderUnderTest): void {
  describe(`the builder ${name}`, () => {
    const fixture = new Fixture(driver);
    beforeAll(() => fixture.open(), 60_000);
    afterAll(() => fixture.close(), 60_000);

    it("runs the lines in order over the included files, in the working directory", async () => {
      fixture.context(
        { "data/one.txt": "one\n", "tool.sh": "#!/bin/sh\necho tool ran\n" },
        { "tool.sh": 0o700 },
      );
      const { image, lines, steps } = await fixture.build({
        run: ["cat data/one.txt > out.txt; pwd", "./tool.sh >> out.txt", "cat out.txt"],
        include: ["data", "tool.sh"],
      });
      expect(lines.slice(1)).toEqual(["one", "tool ran"]);
      expect(lines[0]?.endsWith("/app")).toBe(true);
      expect(steps).toEqual(["pull", "include", "run 1/3", "run 2/3", "run 3/3", "commit"]);
      expect(await fixture.read(image, "/app/out.txt")).toBe("one\ntool ran\n");
      expect(await fixture.read(image, "/app/data/one.txt")).toBe("one\n");
    });

    it("says how the workload is started", async () => {
      const shell = await fixture.build({ entrypoint: "exec httpd -f", env: { A: "1" }, expose: [8080, 80] });
      expect(shell.image.process).toMatchObject({
        argv: ["/bin/sh", "-c", "exec httpd -f"],
        workdir: "/app",
        user: "",
      });
      expect(shell.image.process.env).toMatchObject({ A: "1", PATH: expect.stringContaining("/bin") });
      expect(shell.image.expose).toEqual([8080, 80]);
      expect(shell.image.base.reference).toBe("busybox");
      expect(shell.image.base.digest).toMatch(/^sha256:[a-f0-9]{64}$/);
      expect(shell.image.digest).toMatch(/^sha256:[a-f0-9]{64}$/);
      const list = await fixture.build({ entrypoint: ["httpd", "-f", "a b"] });
      expect(list.image.process.argv).toEqual(["httpd", "-f", "a b"]);
      const own = await fixture.build({ entrypoint: null });
      expect(own.image.process.argv).toEqual(["/bin/sh"]);
    });

    it("takes every text as it is: in lines, in the environment, in names of files", async () => {
      for (const [index, text] of HOSTILE.entries()) {
        const file = `f${index} ${text.replaceAll("/", "_")}`;
        fixture.context({ [file]: `content ${index}` });
        const { image } = await fixture.build({
          run: [`printf '%s' "$VALUE" > value; cat > here <<'END'\n${text}\nEND\nFROM=$PWD; ls > /dev/null`],
          include: [file],
          env: { VALUE: text },
        });
        expect(await fixture.read(image, "/app/value")).toBe(text);
        expect(await fixture.read(image, "/app/here")).toBe(`${text}\n`);
        expect(await fixture.read(image, `/app/${file}`)).toBe(`content ${index}`);
        expect(await fixture.read(image, "/evil")).toBeNull();
        expect(image.process.env["VALUE"]).toBe(text);
      }
    });

    it("runs a line of any length, and every line after it", async () => {
      const long = `exit 4 #${"x".repeat(66_000)}`;
      expect(await fixture.fails({ run: [long, "exit 5"] })).toMatchObject({
        code: "invalid",
        details: { step: "run 1/2", exit_code: 4 },
      });
      const { image, lines } = await fixture.build({
        run: [`printf '%s' ${"y".repeat(100_000)} > long`, "wc -c < long", "head -c 70000 long", "echo end"],
      });
      expect(lines.map((line) => line.length)).toEqual([6, 65_536, 3]);
      expect(await fixture.read(image, "/app/long")).toBe("y".repeat(100_000));
    });

    it("hands long values over exactly, and a line that fails beside them fails the build", async () => {
      const env = { ONE: `'"$x\n${"1".repeat(60_000)}`, TWO: "2".repeat(60_000) };
      expect(await fixture.fails({ env, run: ["exit 4"] })).toMatchObject({ details: { exit_code: 4 } });
      const { image } = await fixture.build({
        env,
        run: [`printf '%s' "$ONE" > one`, `printf '%s' "$TWO" > two`],
      });
      expect(await fixture.read(image, "/app/one")).toBe(env.ONE);
      expect(await fixture.read(image, "/app/two")).toBe(env.TWO);
    });

    it("gives a line what a shell's -c has: its name, an empty input, its own line numbers", async () => {
      const { lines } = await fixture
        .build(
          { run: ['echo "$0 $#"; cat; echo read', "echo a\\", "set -u\n\n: $ABSENT; echo never || :"] },
          { noCache: true },
        )
        .catch((error: FormationError) => ({ lines: error.details.log_tail ?? [] }));
      expect(lines.slice(0, 2)).toEqual(["/bin/sh 0", "read"]);
      expect(lines[2]).toMatch(/^a\\?$/);
      expect(lines.join()).toMatch(/(line )?3: ABSENT: parameter not set/);
      expect(lines).not.toContain("never");
    });

    it("runs nothing twice, unless it is asked to, and only what changed", async () => {
      const run = [`echo first ${fixture.unique()}`, "echo second"];
      const first = await fixture.build({ run });
      expect(first.lines).toHaveLength(2);
      const again = await fixture.build({ run });
      expect(again.lines).toEqual([]);
      expect(again.steps).toEqual(first.steps);
      expect(again.image.digest).toBe(first.image.digest);
      const anew = await fixture.build({ run }, { noCache: true });
      expect(anew.lines).toHaveLength(2);
      const changed = await fixture.build({ run: [run[0] as string, "echo third"] });
      expect(changed.lines).toEqual(["third"]);
      const otherEnv = await fixture.build({ run, env: { SOMETHING: "else" } });
      expect(otherEnv.lines).toHaveLength(2);
    });

    it("runs for everybody what another owner's build ran", async () => {
      const run = [`echo whose ${fixture.unique()}`];
      await fixture.build({ run });
      expect((await fixture.build({ run }, { owner: "another" })).lines).toHaveLength(1);
      expect((await fixture.build({ run }, { owner: "another" })).lines).toEqual([]);
    });

    it("runs anew what depends on a file that changed", async () => {
      const run = ["cat x"];
      fixture.context({ x: "1\n" });
      await fixture.build({ run, include: ["x"] });
      fixture.context({ x: "2\n" });
      expect((await fixture.build({ run, include: ["x"] })).lines).toEqual(["2"]);
    });

    it("tells which line failed, with what exit code, and its last words", async () => {
      const error = await fixture.fails({
        run: ["echo fine", "echo on stdout; echo on stderr >&2; exit 7", "echo never"],
      });
      expect(error).toMatchObject({ code: "invalid", details: { step: "run 2/3", exit_code: 7 } });
      expect(error.details.log_tail).toEqual(expect.arrayContaining(["fine", "on stdout", "on stderr"]));
      expect(error.details.log_tail).toHaveLength(LIMITS.errorLogLines);
      expect(error.details.log_tail).not.toContain("first");
      expect(error.details.log_tail).not.toContain("never");
      expect(error.details.remedy).toBeTruthy();
      expect(error.retryable).toBe(false);
    });

    it("is not misled by output that looks like the engine's own", async () => {
      const error = await fixture.fails({
        run: [
          `printf 'STEP 4/4: RUN x\\nSTEP 9/9: COMMIT\\n'; printf 'Error: building at STEP "RUN /bin/sh -c . /dev/formation/env; . /dev/formation/2 #": while running runtime: exit status 9' >&2; exit 4`,
          "echo never",
        ],
      });
      expect(error).toMatchObject({ code: "invalid", details: { step: "run 1/2", exit_code: 4 } });
    });

    it("shows the last line of a step also when it does not end", async () => {
      const { lines } = await fixture.build({ run: ["printf one", "printf two"] }, { noCache: true });
      expect(lines).toEqual(["one", "two"]);
    });

    it("hands lines over while they are printed", async () => {
      const stop = new AbortController();
      const building = fixture.start({ run: ["echo early; sleep 60"] }, { noCache: true }, stop);
      await building.saw("early");
      stop.abort();
      expect((await building.error).code).toBe("cancelled");
    });

    it("names a base that does not exist", async () => {
      const error = await fixture.fails({ from: "localhost/no-such-image:1" });
      expect(error).toMatchObject({ code: "not_found", details: { step: "pull", field: "from" } });
      expect(error.message).toContain("localhost/no-such-image:1");
      for (const from of [
        "UPPER/case",
        "a b",
        "x\nRUN evil",
        "--help",
        "$HOME",
        "localhost/formation:x",
        "a@b@c",
        "",
      ]) {
        expect(await fixture.fails({ from })).toMatchObject({ code: "invalid", details: { field: "from" } });
      }
    });

    it("builds from nothing, and runs nothing there", async () => {
      fixture.context({ server: "binary" }, { server: 0o755 });
      const { image } = await fixture.build({
        from: "scratch",
        include: ["server"],
        entrypoint: ["/app/server"],
      });
      expect(await fixture.read(image, "/app/server")).toBe("binary");
      expect(await fixture.fails({ from: "scratch", run: ["true"], entrypoint: ["/x"] })).toMatchObject({
        code: "invalid",
      });
      expect(await fixture.fails({ from: "scratch", entrypoint: null })).toMatchObject({
        code: "invalid",
        details: { field: "entrypoint" },
      });
    });

    it("refuses included files that are missing or lead out of the context", async () => {
      fixture.context({ there: "x" });
      expect(await fixture.fails({ include: ["there", "absent"] })).toMatchObject({
        code: "invalid",
        details: { field: "include[1]", step: "include" },
      });
      expect(await fixture.fails({ include: ["../outside"] })).toMatchObject({ code: "invalid" });
      fixture.link("out", "/etc/passwd");
      expect(await fixture.fails({ include: ["out"] })).toMatchObject({ code: "invalid" });
      fixture.link("up", "..");
      expect(await fixture.fails({ include: ["up/x"] })).toMatchObject({ code: "invalid" });
    });

    it("makes a disk once per image and size, also when many ask at once", async () => {
      const { image } = await fixture.build({ run: ["echo content > file"] });
      const signal = AbortSignal.timeout(60_000);
      const [one, two, other] = await Promise.all([
        fixture.builder.disk(image.digest, 1, signal),
        fixture.builder.disk(image.digest, 1, signal),
        fixture.builder.disk(image.digest, 2, signal),
      ]);
      expect(two).toBe(one);
      expect(other).not.toBe(one);
      expect(await fixture.builder.disk(image.digest, 1, signal)).toBe(one);
      expect(await driver.read(one, "/app/file")).toBe("content\n");
      await expect(fixture.builder.disk(image.digest, 1, AbortSignal.abort())).rejects.toMatchObject({
        code: "cancelled",
      });
      await expect(fixture.builder.disk(`sha256:${"0".repeat(64)}`, 1, signal)).rejects.toMatchObject({
        code: "not_found",
      });
    });

    it("says so when an image does not fit on a disk", async () => {
      const { image } = await fixture.build({ run: ["head -c 30000000 /dev/zero > big"] });
      const making = fixture.builder.disk(image.digest, 0.02, AbortSignal.timeout(60_000));
      await expect(making).rejects.toMatchObject({ code: "limit", details: { field: "resources.disk_gb" } });
    });

    it("lists what it keeps and forgets what it is told to", async () => {
      const { image } = await fixture.build({ run: [`echo ${fixture.unique()} > file`] });
      expect(image.bytes).toBeGreaterThan(0);
      expect(await fixture.builder.images()).toContainEqual({ digest: image.digest, bytes: image.bytes });
      const path = await fixture.builder.disk(image.digest, 1, AbortSignal.timeout(60_000));
      await fixture.builder.remove(image.digest);
      await fixture.builder.remove(image.digest);
      expect((await fixture.builder.images()).map((one) => one.digest)).not.toContain(image.digest);
      expect(await driver.read(path, "/app/file").catch(() => null)).toBeNull();
    });

    it("removes no step that a build stands on: it ends well, and then the image goes", async () => {
      const step = `echo ${fixture.unique()} > file`;
      const { image } = await fixture.build({ run: [step] });
      const lines: string[] = [];
      const building = fixture.builder.build(
        fixture.request({ run: [step, "echo began; sleep 2; cat file"] }, {}),
        {
          signal: AbortSignal.timeout(60_000),
          onLine: (_, line) => lines.push(line),
          onStep: () => {},
        },
      );
      await waitFor(() => lines.includes("began"), { timeoutMs: 30_000, everyMs: 10, what: "the last line" });
      const refused = await fixture.builder.remove(image.digest).catch((error: unknown) => error);
      if (refused) expect(refused).toMatchObject({ code: "unavailable" });
      expect(await fixture.read(await building, "/app/file")).toMatch(/^\d+\n$/);
      await fixture.builder.remove(image.digest);
      expect((await fixture.builder.images()).map((one) => one.digest)).not.toContain(image.digest);
    });

    it("gives back the space of disks and layers, but never an image", async () => {
      const { image } = await fixture.build({ run: ["echo kept > file"] });
      const path = await fixture.builder.disk(image.digest, 1, AbortSignal.timeout(60_000));
      expect(await fixture.builder.trim(Number.MAX_SAFE_INTEGER)).toBe(0);
      expect(await driver.read(path, "/app/file")).toBe("kept\n");
      expect(await fixture.builder.trim(0)).toBeGreaterThan(0);
      expect((await fixture.builder.images()).map((one) => one.digest)).toContain(image.digest);
      expect(await fixture.read(image, "/app/file")).toBe("kept\n");
    });

    it("builds several at a time", async () => {
      const same = [`echo ${fixture.unique()}`];
      const builds = [same, same, ["echo b > b"], ["exit 3"]].map((run) =>
        fixture.build({ run }).then(
          (built) => built.image.digest,
          (error: FormationError) => error.code,
        ),
      );
      const [one, two, three, four] = await Promise.all(builds);
      for (const digest of [one, two, three]) expect(digest).toMatch(/^sha256:/);
      expect(four).toBe("invalid");
      expect(await fixture.leftovers()).toEqual([]);
    });

    it("says what it is and what it enforces", async () => {
      const report = await fixture.builder.probe();
      expect(report).toMatchObject({ ready: true, problems: [] });
      expect(report.enforced.map((one) => one.what)).toEqual(
        expect.arrayContaining(["memory limit", "pids limit", "disk limit", "time limit", "network filter"]),
      );
    });

    describeFaults(fixture, driver);
    describeTransfers(fixture);

    it("leaves what an earlier process left half-made to nobody", async () => {
      const stateDir = fixture.directory("killed");
      const marker = fixture.unique();
      const child = fixture.child(stateDir, { run: [`echo running; sleep 600 ${marker}`] });
      try {
        await child.saw("running");
        child.kill();
        await child.ended;
        const builder = await driver.open(stateDir);
        await builder.recover();
        await ended(() => processesWith(marker));
        expect(await driver.leftovers(stateDir)).toEqual([]);
        await expect(fixture.buildOn(builder, { run: ["echo works > file"] })).resolves.toBeDefined();
        await builder.destroy();
        expect(existsSync(stateDir)).toBe(false);
      } finally {
        child.kill();
        rmSync(stateDir, { recursive: true, force: true });
      }
    });

    it("throws nothing but its own errors", async () => {
      await expect(fixture.builder.remove("nonsense")).rejects.toBeInstanceOf(FormationError);
      await expect(fixture.builder.disk("../../x", 1, AbortSignal.timeout(1000))).rejects.toBeInstanceOf(
        FormationError,
      );
    });
  });
}
