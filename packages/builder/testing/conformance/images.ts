// Images and their disks: their content, how long they are kept, and what removing one frees.

import type { FormationError } from "@formation-mcp/contract";
import { waitFor } from "@formation-mcp/os";
import { expect, it } from "vitest";
import type { BuilderHarness, Fixture } from "./fixture.ts";

/** What an image says about its workload, and how long it is kept. */
export function describeImages(fixture: Fixture, driver: BuilderHarness): void {
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

  it("removes no step that a running build uses: the build succeeds, and then the image can go", async () => {
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
}

/** Disks made from images. */
export function describeDisks(fixture: Fixture, driver: BuilderHarness): void {
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

  it("gives back the space of disks and layers, but never an image", async () => {
    const { image } = await fixture.build({ run: ["echo kept > file"] });
    const path = await fixture.builder.disk(image.digest, 1, AbortSignal.timeout(60_000));
    expect(await fixture.builder.trim(Number.MAX_SAFE_INTEGER)).toBe(0);
    expect(await driver.read(path, "/app/file")).toBe("kept\n");
    expect(await fixture.builder.trim(0)).toBeGreaterThan(0);
    expect((await fixture.builder.images()).map((one) => one.digest)).toContain(image.digest);
    expect(await fixture.read(image, "/app/file")).toBe("kept\n");
  });
}
