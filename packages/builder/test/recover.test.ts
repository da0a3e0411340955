// @module-tag buildah

// A worker that is killed at any moment, alone or with all its child processes.

import { execFileSync, spawn } from "node:child_process";
import { readdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { openBuildahBuilder } from "@formation-mcp/builder/buildah";
import { afterAll, describe, expect, it, test } from "vitest";
import { buildWell, temporary } from "./support/build.ts";
import { killMarked, leftoversOf } from "./support/real-disk.ts";

const SCRIPT = `
import { openBuildahBuilder } from "@formation-mcp/builder/buildah";
import { buildWell } from ${JSON.stringify(new URL("./support/build.ts", import.meta.url).href)};
const builder = await openBuildahBuilder({ stateDir: process.argv[1] });
const parent = process.ppid; // changes once the test that started it is killed, which ends the loop
for (let round = 0; process.ppid === parent; round++) {
  const { image } = await buildWell(builder, { run: ["echo " + process.pid + " " + round, "sleep 0.2"], entrypoint: "x" });
  await builder.disk(image.digest, 1, AbortSignal.timeout(60000));
}`;

test("a container that buildah was killed over before it called it its own goes too", async () => {
  using dir = temporary();
  const stateDir = join(dir.path, "s");
  const builder = await openBuildahBuilder({ stateDir });
  const places = ["--root", join(stateDir, "b/c"), "--runroot", join(stateDir, "b/r")];
  execFileSync("buildah", [...places, "--storage-driver", "overlay", "from", "scratch"]);
  const containers = join(stateDir, "b/c/overlay-containers");
  for (const name of readdirSync(containers))
    rmSync(join(containers, name, "userdata"), { recursive: true, force: true });
  expect(await leftoversOf(stateDir)).not.toEqual([]);
  await builder.recover();
  expect(await leftoversOf(stateDir)).toEqual([]);
});

describe("after a worker was killed", () => {
  const dir = temporary();
  afterAll(() => dir[Symbol.dispose]());

  it("nothing is left and building goes on, whatever was killed and whenever", async () => {
    const stateDir = join(dir.path, "s");
    const builder = await openBuildahBuilder({ stateDir });
    await buildWell(builder, {});
    let seed = Number(process.env["FORMATION_SEED"] ?? Date.now() % 1_000_000);
    const random = () => {
      seed = (seed * 1_103_515_245 + 12_345) % 2_147_483_648;
      return seed / 2_147_483_648;
    };
    const first = seed;
    for (let round = 0; round < 5; round++) {
      const child = spawn(
        process.execPath,
        ["--conditions=formation-source", "--input-type=module", "-e", SCRIPT, stateDir],
        {
          stdio: "ignore",
        },
      );
      const gone = new Promise((resolve) => child.once("exit", resolve));
      await delay(400 + random() * 1800);
      const everything = random() < 0.7;
      child.kill("SIGKILL");
      if (everything) killMarked(stateDir);
      await gone;
      await builder.recover();
      expect(await leftoversOf(stateDir), `seed ${first}, round ${round}`).toEqual([]);
      await buildWell(builder, { run: [`echo after ${round}`], entrypoint: "x" });
    }
  }, 120_000);
});
