// The time to make an instance, up to where it could be started, must not depend on the size of its disk.

import type { Builder } from "@formation-mcp/builder";
import type { Image } from "@formation-mcp/contract";
import type { Hypervisor } from "@formation-mcp/hypervisor";
import { openQemuHypervisor } from "@formation-mcp/hypervisor/qemu";
import { buildWith, makeContext, openBuilder } from "./build.ts";
import { print, progress } from "./report.ts";
import type { Scope } from "./scope.ts";
import { pairs, ratioOfMedians, timed } from "./statistics.ts";

const PAIRS = 100;

export async function benchInstance(scope: Scope): Promise<void> {
  const builder = await openBuilder(scope, scope.directory());
  const image = await buildWith(builder, makeContext(scope.directory()), false);
  const hypervisor = await openQemuHypervisor({ stateDir: scope.directory() });
  scope.defer(() => hypervisor.close());
  const make = maker(builder, hypervisor, image);
  const name = "instance: made with a disk of 10 GB";
  await make(1);
  await make(10);
  print({
    name,
    limit: { atMost: 1.1 },
    judge: "ratio",
    result: ratioOfMedians(
      await pairs(
        PAIRS,
        () => make(10),
        () => make(1),
        progress(name, PAIRS),
      ),
    ),
    against: "the same with 1 GB",
  });
}

/** The time from the image, whose disk is in the cache, to a machine that could be started. */
function maker(builder: Builder, hypervisor: Hypervisor, image: Image): (diskGb: number) => Promise<number> {
  let made = 0;
  return async (diskGb) => {
    const id = `dep_bench.${++made}`;
    const took = await timed(async () => {
      await hypervisor.create({
        id,
        hostname: "bench",
        disk: await builder.disk(image.digest, diskGb, AbortSignal.timeout(120_000)),
        vcpus: 1,
        memory_mb: 256,
        process: image.process,
        ports: [{ guest_port: 8080, port: null }],
        egress: true,
      });
    });
    await hypervisor.remove(id);
    return took;
  };
}
