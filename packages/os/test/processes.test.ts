import { spawn } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { identify, isAlive, sendSignal, waitFor, waitForExit } from "@formation-mcp/os";
import { expect, it, onTestFinished } from "vitest";
import { ended, scratch } from "./support.ts";

const sleeper = () => {
  const child = spawn("/bin/sleep", ["60"], { stdio: "ignore" });
  onTestFinished(() => {
    child.kill("SIGKILL");
  });
  return child;
};

it("a process is itself, and no other", () => {
  const one = identify(sleeper().pid ?? 0);
  const two = identify(sleeper().pid ?? 0);
  if (!one || !two) return expect.unreachable();
  expect(isAlive(one)).toBe(true);
  expect(identify(one.pid)).toEqual(one);
  expect(isAlive({ ...one, pid: two.pid })).toBe(one.start_ticks === two.start_ticks);
});

it("the same pid with another start time or boot is another process and is never signalled", () => {
  const identity = identify(sleeper().pid ?? 0);
  if (!identity) return expect.unreachable();
  const strangers = [
    { ...identity, start_ticks: String(Number(identity.start_ticks) - 1) },
    { ...identity, start_ticks: "" },
    { ...identity, boot_id: "00000000-0000-0000-0000-000000000000" },
  ];
  for (const stranger of strangers) {
    expect(isAlive(stranger)).toBe(false);
    expect(sendSignal(stranger, "SIGKILL")).toBe(false);
  }
  expect(isAlive(identity)).toBe(true);
});

it("an identity survives JSON, also one written without a boot id", () => {
  const identity = identify(process.pid);
  expect(identity && isAlive(JSON.parse(JSON.stringify(identity)))).toBe(true);
  expect(identity && isAlive({ pid: identity.pid, start_ticks: identity.start_ticks })).toBe(true);
});

it("a name with spaces and parentheses does not confuse it", async () => {
  const child = spawn(process.execPath, ["-e", "process.title=') R 1 (x) 2'; setInterval(()=>{},1e6)"], {
    stdio: "ignore",
  });
  onTestFinished(() => {
    child.kill("SIGKILL");
  });
  const before = identify(child.pid ?? 0);
  await waitFor(() => readFileSync(`/proc/${child.pid}/stat`, "latin1").includes(") R 1 ("), {
    timeoutMs: 10_000,
    what: "the title",
  });
  expect(identify(child.pid ?? 0)).toEqual(before);
});

it("a zombie is not alive", async () => {
  const pidFile = join(scratch(), "pid");
  // The parent becomes a program that never reaps the child it was born with.
  const parent = spawn("/bin/sh", ["-c", `sleep 0.05 & echo $! > ${pidFile}; exec sleep 60`], {
    stdio: "ignore",
  });
  onTestFinished(() => {
    parent.kill("SIGKILL");
  });
  const pid = await waitFor(() => existsSync(pidFile) && Number(readFileSync(pidFile, "utf8")), {
    timeoutMs: 10_000,
    what: "the child's pid",
  });
  await waitFor(() => / Z /.test(readFileSync(`/proc/${pid}/stat`, "latin1")), {
    timeoutMs: 10_000,
    what: "the zombie",
  });
  expect(identify(pid)).toBeNull();
});

it.each([0, -1, 1.5, Number.NaN, 4_194_305])("%d is no process's pid", (pid) => {
  expect(identify(pid)).toBeNull();
  expect(sendSignal({ pid, start_ticks: "" }, "SIGKILL")).toBe(false);
});

it("waiting for an end says whether it came", async () => {
  const child = sleeper();
  const identity = identify(child.pid ?? 0);
  if (!identity) return expect.unreachable();
  expect(await waitForExit(identity, 50)).toBe(false);
  expect(await waitForExit(identity, 60_000, AbortSignal.timeout(50))).toBe(false);
  expect(sendSignal(identity, "SIGTERM")).toBe(true);
  expect(await waitForExit(identity, 10_000)).toBe(true);
  await ended(child);
  expect(sendSignal(identity, "SIGTERM")).toBe(false);
});
