// What this machine is as a node: its lasting id and what it offers.

import { statfsSync } from "node:fs";
import { availableParallelism, hostname, totalmem } from "node:os";
import { type Id, idKind, newId } from "@formation-mcp/contract";
import { readIfThere, writeFileAtomic } from "@formation-mcp/os";
import type { Configuration } from "../settings/configuration.ts";
import type { Layout } from "./layout.ts";

/** CPUs are shared between VMs as processes share them; memory is not promised twice. */
const VCPUS_PER_CORE = 8;
const MEMORY_SHARE = 0.8;

/** The id that this state directory's node keeps for ever. */
export function nodeId(layout: Layout): Id<"node"> {
  const known = readIfThere(layout.nodeFile)?.trim();
  if (known && idKind(known) === "node") return known as Id<"node">;
  const id = newId("node");
  writeFileAtomic(layout.nodeFile, `${id}\n`);
  return id;
}

export function nodeName(): string {
  return hostname();
}

/** vCPUs, memory in MiB and disk in GiB that instances and builds may use here. */
export function nodeCapacity(configuration: Configuration, layout: Layout) {
  const disk = statfsSync(layout.root);
  const freeGb = Math.floor((disk.bavail * disk.bsize) / 1024 ** 3);
  const { vcpus, memory_mb, disk_gb } = configuration.capacity;
  return {
    vcpus: vcpus ?? availableParallelism() * VCPUS_PER_CORE,
    memory_mb: memory_mb ?? Math.floor((totalmem() / 1024 ** 2) * MEMORY_SHARE),
    disk_gb: disk_gb ?? Math.max(freeGb, 1),
  };
}
