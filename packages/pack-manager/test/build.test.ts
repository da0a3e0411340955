import { FormationError } from "@formation-mcp/contract";
import { expect, test } from "vitest";
import { openLab } from "./support/lab.ts";
import { aborted } from "./support/scripted-drivers.ts";

test("a build becomes ready together with its operation, and its lines are in its log", async () => {
  await using lab = await openLab();
  await lab.worker();
  lab.builder.script = [
    (_request, hooks) => {
      hooks.onLine("stdout", "compiling");
      hooks.onStep("run 1/1", "Running line 1 of 1.", 0.5);
      hooks.onLine("stderr", "done");
    },
  ];
  const { build, operation } = await lab.ask.build();
  const ended = await lab.ended(operation);
  expect(ended).toMatchObject({ state: "completed", error: null, attempt: 1 });
  const record = await lab.store.build(null, build);
  expect(record).toMatchObject({ state: "ready", node_id: lab.node, error: null });
  expect(record.image?.expose).toEqual([8080]);
  expect(record.started_at).not.toBeNull();
  expect(record.ended_at).not.toBeNull();
  expect(await lab.log(build)).toEqual(expect.arrayContaining(["compiling", "done"]));
});

test("a user's mistake ends at once with its step, its exit code, its last lines and a remedy", async () => {
  await using lab = await openLab();
  await lab.worker();
  lab.builder.script = [
    (_request, hooks) => {
      for (let i = 1; i <= 60; i++) hooks.onLine("stdout", `line ${i}`);
      throw new FormationError("invalid", "Line 1 of run ended with code 3.", {
        step: "run 1/1",
        exit_code: 3,
      });
    },
  ];
  const { build, operation } = await lab.ask.build();
  const ended = await lab.ended(operation);
  expect(ended).toMatchObject({ state: "failed", attempt: 1 });
  expect(ended.error).toMatchObject({ code: "invalid", step: "run 1/1", exit_code: 3 });
  expect(ended.error?.log_tail).toHaveLength(40);
  expect(ended.error?.log_tail?.at(-1)).toBe("line 60");
  expect(ended.error?.remedy).toBeTruthy();
  expect(await lab.store.build(null, build)).toMatchObject({ state: "failed", error: ended.error });
});

test("a temporary failure is retried, later each time, with three attempts at most", async () => {
  await using lab = await openLab();
  await lab.worker();
  const fail = () => {
    throw new FormationError("unavailable", "The registry does not answer.", { step: "pull" });
  };
  lab.builder.script = [fail, fail];
  const first = await lab.ask.build();
  expect(await lab.ended(first.operation)).toMatchObject({ state: "completed", attempt: 3 });

  lab.builder.script = [fail, fail, fail];
  const second = await lab.ask.build();
  const ended = await lab.ended(second.operation);
  expect(ended).toMatchObject({ state: "failed", attempt: 3 });
  expect(ended.error?.message).toMatch(/does not answer.*3 times/);
  expect((await lab.store.build(null, second.build)).state).toBe("failed");
  const attempts = lab.builder.requests.map((request) => request.id);
  expect(attempts.slice(3)).toEqual([1, 2, 3].map((n) => `${second.build}.${n}`));
});

test("each further attempt waits four times as long", async () => {
  await using lab = await openLab();
  const waits: number[] = [];
  await lab.worker({
    clock: { now: () => 1_000_000 },
    settings: { retryBaseMs: 10 },
    store: {
      ...lab.store,
      settle: (lease, outcome, changes) => {
        if (outcome.state === "queued") waits.push(outcome.run_at - 1_000_000);
        return lab.store.settle(lease, outcome, changes);
      },
    },
  });
  const fail = () => {
    throw new FormationError("unavailable", "Not now.");
  };
  lab.builder.script = [fail, fail];
  const { operation } = await lab.ask.build();
  expect((await lab.ended(operation)).state).toBe("completed");
  expect(waits).toEqual([10, 40]);
});

test("a build that is still running at its operation's deadline is ended and has failed", async () => {
  await using lab = await openLab();
  await lab.worker();
  lab.builder.script = [(_request, hooks) => aborted(hooks.signal)];
  const { build, operation } = await lab.ask.build({}, undefined, 400);
  expect(await lab.ended(operation)).toMatchObject({ state: "failed", error: { code: "limit" } });
  expect((await lab.store.build(null, build)).state).toBe("failed");
});

test("the context is unpacked for the build and gone afterwards", async () => {
  const { packFiles } = await import("@formation-mcp/artifacts/context");
  const { existsSync, readFileSync } = await import("node:fs");
  await using lab = await openLab();
  await lab.worker();
  const files = packFiles({ "app/hello.txt": { content: new TextEncoder().encode("hi") } }, ["app"]);
  const { digest } = await lab.artifacts.put(files, { maxBytes: 1_000_000 });
  let seen = "";
  lab.builder.script = [
    (request) => {
      seen = readFileSync(`${request.contextDir}/app/hello.txt`, "utf8");
    },
  ];
  const { operation } = await lab.ask.build({ include: ["app"] }, digest);
  expect((await lab.ended(operation)).state).toBe("completed");
  expect(seen).toBe("hi");
  expect(existsSync(lab.builder.requests[0]?.contextDir ?? "none")).toBe(false);
});

test("an internal error is retried and never shown with its stack", async () => {
  await using lab = await openLab();
  await lab.worker();
  const bug = () => {
    throw new TypeError("secret /path");
  };
  lab.builder.script = [bug, bug, bug];
  const { operation } = await lab.ask.build();
  const ended = await lab.ended(operation);
  expect(ended).toMatchObject({ state: "failed", attempt: 3, error: { code: "internal" } });
  expect(JSON.stringify(ended.error)).not.toContain("secret");
});

test("a cancel ends the build, and the record says so", async () => {
  await using lab = await openLab();
  await lab.worker();
  let ended = false;
  lab.builder.script = [
    async (_request, hooks) => {
      await aborted(hooks.signal).finally(() => {
        ended = true;
      });
    },
  ];
  const { build, operation } = await lab.ask.build();
  await lab.reaches(operation, (read) => read.progress?.step === "pull");
  await lab.store.requestCancel(null, operation.id);
  expect(await lab.ended(operation)).toMatchObject({ state: "cancelled", error: { code: "cancelled" } });
  expect(ended).toBe(true);
  expect((await lab.store.build(null, build)).state).toBe("cancelled");
});

test("at most as many builds run at a time as there are slots", async () => {
  await using lab = await openLab();
  await lab.worker({ settings: { buildSlots: 1 } });
  let running = 0;
  let most = 0;
  const slow = async () => {
    most = Math.max(most, ++running);
    await new Promise((resolve) => setTimeout(resolve, 50));
    running--;
  };
  lab.builder.script = [slow, slow, slow];
  const asked = await Promise.all([lab.ask.build(), lab.ask.build(), lab.ask.build()]);
  for (const { operation } of asked) expect((await lab.ended(operation)).state).toBe("completed");
  expect(most).toBe(1);
});
