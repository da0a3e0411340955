import { mkdir, readFile, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { unpackContext } from "@formation-mcp/artifacts/context";
import { FormationError } from "@formation-mcp/contract";
import { expect, test } from "vitest";
import { HELLO, ready } from "./formfiles.ts";
import { ALICE, openWorld, until } from "./world.ts";

test("pack_build queues a build at once; the build is ready when the worker completes it; each result says what to do next", async () => {
  await using world = await openWorld();
  const queued = await world.call("pack_build", { formfile: HELLO });
  expect(queued).toMatchObject({ name: "hello", state: "queued", done: false, warnings: [] });
  expect(queued["next"]).toContain(String(queued["operation_id"]));
  await world.worker.step();
  const build = await world.call("build_get", { build_id: queued["build_id"] });
  expect(build).toMatchObject({ state: "ready", image: { base: "busybox" } });
  expect(build["next"]).toContain(`pack_ship with build_id ${queued["build_id"]}`);
});

test("one error lists all issues of a formfile with their lines", async () => {
  await using world = await openWorld();
  const error = await world.refused("pack_build", { formfile: "from: busybox\nnam: x\nexpose: [0]\n" });
  expect(error.code).toBe("invalid");
  expect(error.message).toMatch(/line 2, column 1/);
  expect(error.message).toMatch(/line 3/);
  expect(error.details.field).toMatch(/^formfile/);
  expect(error.details.remedy).toContain("pack_build");
});

test("a missing formfile is an error that names the field", async () => {
  await using world = await openWorld();
  const error = await world.refused("pack_build", {});
  expect(error.code).toBe("invalid");
  expect(error.details.field).toBe("formfile");
});

test("a dry run returns the formfile with its defaults and only the keys of its environment, and stores nothing", async () => {
  await using world = await openWorld();
  const formfile = { ...HELLO, env: { TOKEN: "s3cret" }, include: ["a.txt"] };
  const said = await world.call("pack_build", { formfile, context_files: { "a.txt": "a" }, dry_run: true });
  expect(said).toMatchObject({
    state: "valid",
    done: true,
    formfile: { resources: { vcpus: 1, memory_mb: 512, disk_gb: 5 }, env: ["TOKEN"] },
  });
  expect(JSON.stringify(said)).not.toContain("s3cret");
  expect(await world.call("build_list")).toMatchObject({ builds: [] });
  expect(await world.store.artifactRoots()).toEqual([]);
});

test("included files are packed unchanged, scripts become executable, and other files are left out with a warning", async () => {
  await using world = await openWorld();
  const said = await world.call("pack_build", {
    formfile: { ...HELLO, include: ["src", "run.sh"] },
    context_files: {
      "run.sh": "#!/bin/sh\necho hi\n",
      "src/data.bin": { base64: "AAEC/w==" },
      "other.txt": "left out",
    },
  });
  expect(said["warnings"]).toEqual(["Left out, because include does not name them: other.txt."]);
  const build = await world.store.build("alice", said["build_id"] as `bld_${string}`);
  const into = join(world.dir, "unpacked");
  await mkdir(into);
  const archive = await world.artifacts.get(build.context_digest as `sha256:${string}`);
  await unpackContext(archive, into, { maxBytes: 1_000_000, maxFiles: 100 });
  expect([...(await readFile(join(into, "src/data.bin")))]).toEqual([0, 1, 2, 255]);
  expect((await stat(join(into, "run.sh"))).mode & 0o100).toBe(0o100);
  await expect(stat(join(into, "other.txt"))).rejects.toThrow();
});

test("one error names every missing or wrong context file", async () => {
  await using world = await openWorld();
  const missing = await world.refused("pack_build", { formfile: { ...HELLO, include: ["a.txt", "b.txt"] } });
  expect(missing.message).toContain('formfile.include[0]: "a.txt"');
  expect(missing.message).toContain('formfile.include[1]: "b.txt"');
  const wrong = await world.refused("pack_build", {
    formfile: { ...HELLO, include: ["."] },
    context_files: { "/etc/passwd": "x", "../up": "x", "a.txt": { base64: "%%%" }, b: "x", "b/c": "x" },
  });
  expect(wrong.code).toBe("invalid");
  for (const name of ["/etc/passwd", "../up", "a.txt", "b/c"]) expect(wrong.message).toContain(name);
  const shape = await world.refused("pack_build", { formfile: HELLO, context_files: { a: 1 } });
  expect(shape.message).toContain("context_files.a: must be a text");
});

test("context files beyond the inline limit are refused; the remedy names another way", async () => {
  await using world = await openWorld();
  const error = await world.refused("pack_build", {
    formfile: { ...HELLO, include: ["."] },
    context_files: { big: "x".repeat(2 * 1024 * 1024 + 1) },
  });
  expect(error.code).toBe("limit");
  expect(error.details).toMatchObject({
    field: "context_files",
    remedy: expect.stringContaining("context_dir"),
  });
});

test("a context_dir is accepted only from a local caller, and only below the allowed directories", async () => {
  const allowed = await openWorld();
  await using _ = allowed;
  const dir = join(allowed.dir, "project");
  await mkdir(dir);
  await writeFile(join(dir, "index.html"), "hello");
  await writeFile(join(dir, ".env"), "SECRET=1");
  const input = { formfile: { ...HELLO, include: ["."] }, context_dir: dir };

  expect((await allowed.refused("pack_build", input)).code).toBe("forbidden");

  await using world = await openWorld({ contextDirs: [allowed.dir] });
  const said = await world.call("pack_build", input);
  expect(said["warnings"]).toEqual([expect.stringContaining(".env")]);
  const remote = await world.refused("pack_build", input, { ...ALICE, local: false });
  expect(remote.code).toBe("forbidden");
  expect(remote.details.remedy).toContain("context_files");
  for (const context_dir of ["/etc", join(dir, "../../.."), join(dir, "nowhere"), "project"]) {
    const error = await world.refused("pack_build", { ...input, context_dir });
    expect(error.details.field).toBe("context_dir");
    expect(error.details.remedy).toBeTruthy();
  }
  const both = await world.refused("pack_build", { ...input, context_files: {} });
  expect(both.code).toBe("invalid");
  const absent = await world.refused("pack_build", {
    ...input,
    formfile: { ...HELLO, include: ["nothing"] },
  });
  expect(absent.details.field).toBe("formfile.include[0]");
});

test("a build that fails while the caller waits is an error with its step, exit code, fenced log and remedy", async () => {
  await using world = await openWorld();
  world.worker.plan = world.worker.fail({
    code: "invalid",
    message: "The command ended with 2.",
    remedy: "Correct run[0].",
    step: "run 1/1",
    exit_code: 2,
    log_tail: ["make: *** No rule", "\u001b[31mred\u001b[0m"],
  });
  world.worker.start();
  const error = await world.refused("pack_build", { formfile: HELLO, wait_seconds: 10 });
  expect(error.details).toMatchObject({ step: "run 1/1", exit_code: 2 });
  expect(error.details.remedy).toMatch(/Correct run\[0\]\. More: build_get with build_id bld_/);
  const lines = error.details.log_tail ?? [];
  expect(lines.slice(1, -1)).toEqual(["make: *** No rule", "red"]);
  expect(lines[0]).toMatch(/^<untrusted-[0-9a-f]{24}> .*never follow/);
  expect(lines.at(-1)).toBe(`</${lines[0]?.slice(1, 35)}`.replace(/>?$/, ">"));

  const id = /bld_\w+/.exec(error.details.remedy ?? "")?.[0];
  const told = await world.call("operation_get", { id });
  expect(told).toMatchObject({ state: "failed", done: true, error: { code: "invalid", step: "run 1/1" } });
  expect(told["log"]).toContain("red\n");
});

test("build_get shows the end of the build's log", async () => {
  await using world = await openWorld();
  const id = await ready(world);
  await world.worker.log(id, ["one", "two", "three"], "build");
  const said = await world.call("build_get", { build_id: id, log_tail: 2 });
  expect(String(said["log"]).split("\n").slice(1, -1)).toEqual(["two", "three"]);
});

test("build_list filters by state and name and pages from the newest build", async () => {
  await using world = await openWorld();
  for (const name of ["one", "two", "three"])
    await world.call("pack_build", { formfile: { ...HELLO, name } });
  await world.worker.step();
  const names = (page: Record<string, unknown>) => (page["builds"] as { name: string }[]).map((b) => b.name);
  const first = await world.call("build_list", { limit: 2 });
  expect(names(first)).toEqual(["three", "two"]);
  const second = await world.call("build_list", { limit: 2, cursor: first["cursor"] });
  expect([names(second), second["cursor"]]).toEqual([["one"], null]);
  expect(names(await world.call("build_list", { state: "ready" }))).toEqual(["one"]);
  expect(names(await world.call("build_list", { name: "two" }))).toEqual(["two"]);
  const bad = await world.refused("build_list", { cursor: "nonsense" });
  expect(bad.details).toMatchObject({ field: "cursor", remedy: expect.any(String) });
});

test("a wake-up that can't be sent is no error; a worker that can't be started is one, and leaves nothing queued", async () => {
  await using world = await openWorld({
    ensureWorker: async () => {
      throw new FormationError("unavailable", "No VM can run here.", { remedy: "Run doctor." });
    },
  });
  const error = await world.refused("pack_build", { formfile: HELLO });
  expect([error.code, error.details.remedy]).toEqual(["unavailable", "Run doctor."]);
  await until(async () => {
    const { operations } = await world.call("operation_list");
    return (operations as { state: string }[]).every(({ state }) => state === "cancelled");
  });

  await using deaf = await openWorld();
  deaf.queue.publish = async () => Promise.reject(new Error("the queue is gone"));
  expect(await deaf.call("pack_build", { formfile: HELLO })).toMatchObject({ state: "queued" });
});
