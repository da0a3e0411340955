// @module-tag buildah

// A builder program that reports success although it skipped a line, as buildah 1.28 does after an
// instruction of 64 KiB.

import { chmodSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { openBuildahBuilder } from "@formation-mcp/builder/buildah";
import { expect, it } from "vitest";
import { build, temporary } from "./support/build.ts";

it("a build whose lines were not all run is an error, and its image is not kept", async () => {
  using dir = temporary();
  const buildahPath = join(dir.path, "buildah");
  const leaveOut = `for last; do :; done
if [ -f "$last/Containerfile" ]; then sed -i '/^RUN .*formation.2/d' "$last/Containerfile"; fi
exec buildah "$@"
`;
  writeFileSync(buildahPath, `#!/bin/sh\n${leaveOut}`);
  chmodSync(buildahPath, 0o755);
  const builder = await openBuildahBuilder({ stateDir: join(dir.path, "s"), network: "none", buildahPath });
  await builder.recover();
  const whole = await build(builder, { run: ["echo one"] });
  expect(whole.lines).toEqual(["one"]);
  const cut = await build(builder, { run: ["echo one", "exit 4"] });
  expect(cut.error).toMatchObject({ code: "internal", details: { step: "run 2/2" } });
  expect(await builder.images()).toHaveLength(1);
  await builder.destroy();
}, 60_000);
