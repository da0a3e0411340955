// A build and its disk through the driver, cold and cached, compared with buildah and mke2fs called by hand
// in a store of the same kind. Base, context, run lines, isolation, runtime and (no) network are the same.

import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Builder } from "@formation-mcp/builder";
import { openBuildahBuilder } from "@formation-mcp/builder/buildah";
import type { Image } from "@formation-mcp/contract";
import { RawBuilder } from "./build-raw.ts";
import { print, progress } from "./report.ts";
import type { Scope } from "./scope.ts";
import { pairs, ratioOfMedians, timed } from "./statistics.ts";

const PAIRS = 24;
const DISK_GB = 1;
const PAGE = "<h1>bench</h1>\n";
const LINES = ["mkdir -p built && echo one > built/one.txt", "cat built/one.txt > built/two.txt"];

let builds = 0;

/** Builds the formfile of this comparison with a driver. */
export function buildWith(builder: Builder, contextDir: string, noCache: boolean): Promise<Image> {
  return builder.build(
    {
      id: `bld_bench.${++builds}`,
      owner: "bench",
      formfile: {
        from: "busybox",
        name: "bench",
        run: LINES,
        include: ["www"],
        env: {},
        expose: [8080],
        entrypoint: ["/bin/httpd", "-f", "-p", "8080", "-h", "/app/www"],
        resources: { vcpus: 1, memory_mb: 256, disk_gb: DISK_GB },
        network: { join_formnet: false, external_networks: [] },
        metadata: {},
      },
      contextDir,
      noCache,
      limits: { memory_mb: 512, vcpus: 2, pids: 256, disk_bytes: 1e9, timeout_ms: 120_000 },
    },
    { signal: AbortSignal.timeout(120_000), onLine: () => {}, onStep: () => {} },
  );
}

/** A context directory with one file, which the formfile includes. */
export function makeContext(directory: string): string {
  mkdirSync(join(directory, "www"), { recursive: true });
  writeFileSync(join(directory, "www/index.html"), PAGE);
  return directory;
}

/** Opens a driver that is closed with the scope, together with everything it leaves behind. */
export async function openBuilder(scope: Scope, stateDir: string): Promise<Builder> {
  const builder = await openBuildahBuilder({ stateDir, network: "none" });
  await builder.recover();
  scope.defer(() => builder.recover());
  return builder;
}

export async function benchBuild(scope: Scope): Promise<void> {
  const context = makeContext(scope.directory());
  const ours = await openBuilder(scope, scope.directory());
  // The driver makes the base of the other store too, so that both build on the same base.
  const otherDir = scope.directory();
  const other = await openBuilder(scope, otherDir);
  const first = await buildWith(other, context, true);
  await other.remove(first.digest);
  const raw = new RawBuilder(otherDir, scope.directory(), {
    tree: { "www/index.html": readFileSync(join(context, "www/index.html"), "utf8") },
    lines: LINES,
  });
  await raw.prepare();

  await compare("cached", 1.3);
  await compare("cold", 1.15);

  async function compare(how: "cold" | "cached", atMost: number): Promise<void> {
    const name = `build: ${how}`;
    const noCache = how === "cold";
    const seen = await pairs(
      PAIRS,
      async () => {
        let image: Image | undefined;
        const took = await timed(async () => {
          image = await buildWith(ours, context, noCache);
          await ours.disk(image.digest, DISK_GB, AbortSignal.timeout(120_000));
        });
        if (noCache && image) await ours.remove(image.digest);
        return took;
      },
      async () => {
        const { took, id, disk } = await raw.build(DISK_GB, noCache);
        if (noCache) {
          await raw.remove(id);
          rmSync(disk, { force: true });
        }
        return took;
      },
      progress(name, PAIRS),
    );
    print({
      name,
      limit: { atMost },
      judge: "ratio",
      result: ratioOfMedians(seen),
      against: how === "cold" ? "raw buildah + mke2fs -d" : "raw buildah; neither makes a disk that is there",
    });
  }
}
