import { existsSync, openSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { FormationError } from "@formation-mcp/contract";
import {
  groupMembers,
  identify,
  isAlive,
  plainEnvironment,
  run,
  runChecked,
  sendSignal,
  spawnDetached,
  waitFor,
  waitForExit,
} from "@formation-mcp/os";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { scratch } from "./support.ts";

const LIMIT = { timeoutMs: 20_000 };
const sh = (script: string, options: Partial<Parameters<typeof run>[2]> = {}) =>
  run("/bin/sh", ["-c", script], { ...LIMIT, ...options });
const numberIn = (path: string): Promise<number> =>
  waitFor(() => existsSync(path) && Number(readFileSync(path, "utf8")), { ...LIMIT, what: path });

describe("a child", () => {
  it("ends with its own exit code, which is a result and no error", async () => {
    for (const code of [0, 1, 7, 255]) expect((await sh(`exit ${code}`)).code).toBe(code);
  });

  it("that a signal ended has 128 and the signal's number", async () => {
    expect((await sh("kill -SEGV $$")).code).toBe(139);
    expect((await sh("kill -KILL $$")).code).toBe(137);
  });

  it("gets exactly the arguments it is given", async () => {
    const text = fc
      .string({ unit: "binary" })
      .filter((value) => !value.includes("\0") && value.isWellFormed());
    await fc.assert(
      fc.asyncProperty(fc.array(text, { maxLength: 5 }), async (args) => {
        const result = await run("/usr/bin/printf", ["%s\\0", ...args], LIMIT);
        expect(result.stdout).toBe(args.length === 0 ? "\0" : args.map((arg) => `${arg}\0`).join(""));
      }),
      { numRuns: 15 },
    );
  });

  it("reads the input it is given, to its end", async () => {
    const input = "line\n".repeat(100_000);
    expect((await run("wc", ["-c"], { ...LIMIT, input })).stdout.trim()).toBe(String(input.length));
    expect((await run("wc", ["-c"], LIMIT)).stdout.trim()).toBe("0");
  });

  it("may leave its input unread", async () => {
    expect((await sh("exit 3", { input: "x".repeat(1_000_000) })).code).toBe(3);
  });

  it("has exactly the environment it is given", async () => {
    process.env["FORMATION_OS_TEST_SECRET"] = "s3cret";
    try {
      expect((await sh("env")).stdout).not.toContain("s3cret");
      expect((await run("/usr/bin/env", [], { ...LIMIT, env: { ONLY: "this" } })).stdout).toBe("ONLY=this\n");
      expect(Object.keys(plainEnvironment({ MORE: "1" })).sort()).toEqual(["HOME", "LC_ALL", "MORE", "PATH"]);
    } finally {
      delete process.env["FORMATION_OS_TEST_SECRET"];
    }
  });

  it("works where it is told to", async () => {
    const directory = scratch();
    expect((await run("pwd", ["-P"], { ...LIMIT, cwd: directory })).stdout.trim()).toBe(directory);
  });
});

describe("output", () => {
  it("comes line by line, as it is printed, without ends, the last one too", async () => {
    const lines: string[] = [];
    await sh("printf 'one\\r\\ntwo\\n\\nthree'; printf 'four\\n' >&2", {
      onLine: (stream, line) => lines.push(`${stream}:${line}`),
    });
    expect(lines.filter((line) => line.startsWith("stdout"))).toEqual([
      "stdout:one",
      "stdout:two",
      "stdout:",
      "stdout:three",
    ]);
    expect(lines).toContain("stderr:four");
  });

  it("keeps characters whole that come in two pieces", async () => {
    const lines: string[] = [];
    await sh("printf '\\303'; sleep 0.1; printf '\\244\\n'", { onLine: (_, line) => lines.push(line) });
    expect(lines).toEqual(["ä"]);
  });

  it("is kept from its end, in bytes, and never begins with half a character", async () => {
    const result = await sh("yes ä | head -n 100000 | tr -d '\\n'", { keepBytes: 1001 });
    expect(result.stdout).toBe("ä".repeat(500));
  });

  it("without an end of line is cut once, and what follows its end goes on", async () => {
    const lines: string[] = [];
    await sh("head -c 1000000 /dev/zero | tr '\\0' x; echo; echo after", {
      onLine: (_, line) => lines.push(line),
    });
    expect(lines.map((line) => line.length)).toEqual([65536, 5]);
    expect(lines[1]).toBe("after");
  });

  it("of a flood is bounded in memory", async () => {
    let lines = 0;
    const result = await sh("yes 0123456789abcdef | head -c 60000000", {
      keepBytes: 4096,
      onLine: () => lines++,
    });
    expect(result.stdout.length).toBe(4096);
    expect(lines).toBeGreaterThan(3_000_000);
  });

  it("held open by a process that left the group does not hold the caller", async () => {
    const pidFile = join(scratch(), "pid");
    const result = await sh(`setsid sh -c 'echo $$ > ${pidFile}; exec sleep 60' & echo done`);
    expect(result).toMatchObject({ code: 0, stdout: "done\n" });
    const identity = identify(await numberIn(pidFile));
    expect(identity).not.toBeNull();
    if (identity) sendSignal(identity, "SIGKILL");
  });
});

describe("the limit", () => {
  it("ends the whole group, grandchildren that ignore TERM included", async () => {
    const directory = scratch();
    const script = `trap '' TERM; sh -c 'trap "" TERM; echo $$ > ${directory}/inner; while :; do sleep 1; done' &
      echo $$ > ${directory}/outer; while :; do sleep 1; done`;
    await expect(sh(script, { timeoutMs: 700, graceMs: 200 })).rejects.toMatchObject({
      code: "limit",
      message: expect.stringContaining("700 ms"),
    });
    const inner = await numberIn(join(directory, "inner"));
    const outer = await numberIn(join(directory, "outer"));
    expect(identify(inner)).toBeNull();
    expect(identify(outer)).toBeNull();
    expect(groupMembers(outer)).toEqual([]);
  });

  it("gives a child that obeys TERM the time to tidy up", async () => {
    const directory = scratch();
    const tidy = `trap 'echo tidy > ${directory}/tidy; exit 0' TERM; while :; do sleep 0.05; done`;
    await expect(sh(tidy, { timeoutMs: 500 })).rejects.toMatchObject({ code: "limit" });
    expect(existsSync(join(directory, "tidy"))).toBe(true);
  });

  it("leaves nothing running in the group when the child itself ends well", async () => {
    const pidFile = join(scratch(), "pid");
    await sh(`sleep 60 >/dev/null 2>&1 & echo $! > ${pidFile}`);
    const left = identify(await numberIn(pidFile));
    expect(left === null || (await waitForExit(left, 5000))).toBe(true);
  });

  it("beyond what a timer can take means no limit, not an instant one", async () => {
    expect((await sh("sleep 0.1; echo ok", { timeoutMs: Number.POSITIVE_INFINITY })).stdout).toBe("ok\n");
  });
});

describe("an abort", () => {
  it("ends the group with `cancelled`", async () => {
    const pidFile = join(scratch(), "pid");
    const abort = new AbortController();
    const running = sh(`sleep 60 & echo $! > ${pidFile}; wait`, { signal: abort.signal });
    const outcome = expect(running).rejects.toMatchObject({ code: "cancelled" });
    const pid = await numberIn(pidFile);
    abort.abort();
    await outcome;
    expect(identify(pid)).toBeNull();
  });

  it("that came before starts nothing", async () => {
    const file = join(scratch(), "file");
    await expect(sh(`touch ${file}`, { signal: AbortSignal.abort() })).rejects.toMatchObject({
      code: "cancelled",
    });
    expect(existsSync(file)).toBe(false);
  });
});

describe("what cannot be started or taken over", () => {
  it.each([
    ["a missing program", "/nonexistent/program", []],
    ["a file that is no program", "/etc/passwd", []],
    ["a NUL in an argument", "true", ["a\0b"]],
    ["an argument that is too long", "true", ["x".repeat(3_000_000)]],
  ])("%s is `unavailable`, with a remedy", async (_, file, args) => {
    const error = await run(file, args, LIMIT).catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(FormationError);
    expect(error).toMatchObject({
      code: "unavailable",
      details: { remedy: expect.stringContaining("doctor") },
    });
  });

  it("a listener that throws ends the child and the run, and nothing else", async () => {
    const failing = sh("echo one; sleep 60", {
      onLine: () => {
        throw new Error("full");
      },
    });
    await expect(failing).rejects.toMatchObject({ code: "internal" });
  });

  it("runChecked makes a failing program an error with the end of what it said", async () => {
    await expect(runChecked("/bin/sh", ["-c", "echo because >&2; exit 4"], LIMIT)).rejects.toMatchObject({
      code: "unavailable",
      message: expect.stringContaining("because"),
      details: { exit_code: 4 },
    });
  });
});

describe("a detached child", () => {
  it("leads a session of its own and outlives its pipes", async () => {
    const log = join(scratch(), "log");
    const descriptor = openSync(log, "w");
    const pid = await spawnDetached("/bin/sh", ["-c", "ps -o sid= -p $$; exec sleep 60"], {
      cwd: "/",
      env: plainEnvironment(),
      stdio: ["ignore", descriptor, descriptor],
    });
    const identity = identify(pid);
    if (!identity) return expect.unreachable();
    await waitFor(() => readFileSync(log, "utf8").trim() === String(pid), {
      ...LIMIT,
      what: "its session id",
    });
    expect(sendSignal(identity, "SIGKILL", true)).toBe(true);
    expect(await waitForExit(identity, 5000)).toBe(true);
    expect(isAlive(identity)).toBe(false);
  });

  it("that cannot start is `unavailable`", async () => {
    await expect(
      spawnDetached("/nonexistent/program", [], { cwd: "/", env: {}, stdio: "ignore" }),
    ).rejects.toMatchObject({ code: "unavailable" });
  });
});
