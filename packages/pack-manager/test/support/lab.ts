// One node: a worker with engines that a test scripts, which may be followed by another on the same node.

import { join } from "node:path";
import { type Id, type Instance, newId } from "@formation-mcp/contract";
import type { Worker } from "@formation-mcp/pack-manager";
import { type Ground, type Hand, openGround } from "./ground.ts";
import {
  type ScriptedBuilder,
  type ScriptedHypervisor,
  scriptedBuilder,
  scriptedHypervisor,
} from "./scripted.ts";

export interface Lab extends Omit<Ground, "employ"> {
  builder: ScriptedBuilder;
  hypervisor: ScriptedHypervisor;
  node: Id<"node">;
  /** Starts a worker; the former one must be stopped. */
  worker(options?: Partial<Hand>): Promise<Worker>;
  instance(id: Id<"vm">): Promise<Instance>;
  log(name: string): Promise<string[]>;
}

export async function openLab(): Promise<Lab> {
  const { employ, ...ground } = await openGround({ shared: false });
  const [builder, hypervisor] = [scriptedBuilder(), scriptedHypervisor()];
  const node = newId("node");
  return {
    ...ground,
    builder,
    hypervisor,
    node,
    worker: ({ settings, ...options } = {}) =>
      employ({
        node: { id: node, capacity: { vcpus: 16, memory_mb: 4096, disk_gb: 100 } },
        builder,
        hypervisor,
        scratchDir: join(ground.directory, "scratch"),
        settings: { pollEveryMs: 500, ...settings },
        ...options,
      }),
    instance: (id) => ground.store.instance(null, id),
    async log(name) {
      const page = await ground.artifacts.readLog(name, { maxBytes: 100_000 });
      return page.lines.map((line) => line.text);
    },
  };
}
