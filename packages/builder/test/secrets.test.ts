// @module-tag buildah

// Where the text of run lines and the values of `env` must not be visible: outside the build while it runs,
// and in the image except for what the lines themselves wrote.

import { execFileSync } from "node:child_process";
import { join } from "node:path";
import { openBuildahBuilder } from "@formation-mcp/builder/buildah";
import type { Image } from "@formation-mcp/contract";
import { waitFor } from "@formation-mcp/os";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { build, buildWell, temporary } from "./support/build.ts";
import { processesWith } from "./support/real-disk.ts";

const SECRET = "hunter2-hunter2";
const COMMENT = "the-text-of-a-line";

describe("lines and values", () => {
  const dir = temporary();
  const stateDir = join(dir.path, "s");
  let builder: Awaited<ReturnType<typeof openBuildahBuilder>>;
  beforeAll(async () => {
    builder = await openBuildahBuilder({ stateDir, network: "none" });
    await builder.recover();
  });
  afterAll(async () => {
    await builder.recover();
    dir[Symbol.dispose]();
  });

  const formfile = { env: { SECRET }, run: [`: ${COMMENT}; [ "$SECRET" = ${SECRET} ]`] };
  const inspect = ({ digest }: Image) =>
    execFileSync(
      "buildah",
      [
        ...["--root", join(stateDir, "c"), "--runroot", join(stateDir, "r"), "--storage-driver", "overlay"],
        ...["inspect", "--type", "image", digest.replace("sha256:", "")],
      ],
      { encoding: "utf8" },
    );

  it("stand in no command line on the host while a line runs", async () => {
    const marker = `9${Date.now()}`;
    const stop = new AbortController();
    const lines = [...formfile.run, `: ${COMMENT}; sleep 600 ${marker}`];
    const building = build(builder, { ...formfile, run: lines }, { signal: stop.signal });
    try {
      await waitFor(() => processesWith(`sleep\x00600\x00${marker}`).length > 0, {
        timeoutMs: 30_000,
        what: "the line",
      });
      expect(processesWith("/dev/formation/2")).not.toEqual([]);
      expect(processesWith(SECRET)).toEqual([]);
      expect(processesWith(COMMENT)).toEqual([]);
    } finally {
      stop.abort();
    }
    expect((await building).error?.code).toBe("cancelled");
  });

  it("stand in nothing that the image says about itself", async () => {
    const { image } = await buildWell(builder, formfile);
    const said = inspect(image);
    expect(said).toContain("/dev/formation/1 #");
    expect(said).not.toContain(SECRET);
    expect(said).not.toContain(COMMENT);
  });

  it("leave no file and no directory on the disk", async () => {
    const { image } = await buildWell(builder, { ...formfile, run: [...formfile.run, "ls /dev/formation"] });
    const disk = await builder.disk(image.digest, 1, AbortSignal.timeout(60_000));
    const names = execFileSync("debugfs", ["-R", "ls -p /dev", disk], { encoding: "utf8" });
    expect(names.trim().split(/\s+/)).toHaveLength(2);
    expect(() => execFileSync("grep", ["-c", SECRET, disk])).toThrow();
  });

  it("are not shown when a line fails", async () => {
    const { error, text } = await build(builder, {
      ...formfile,
      run: [`: ${COMMENT}`, `exit 3 # ${COMMENT}`],
    });
    expect(error).toMatchObject({ code: "invalid", details: { exit_code: 3 } });
    expect(JSON.stringify(error?.toRecord()) + text).not.toMatch(/hunter2|the-text/);
  });

  it("cannot be changed by the lines", async () => {
    const { text } = await buildWell(builder, {
      run: ["echo evil > /dev/formation/2 || echo refused; mv /dev/formation /x || echo held", "echo good"],
    });
    expect(text).toMatch(/refused.*held.*good/s);
  });
});
