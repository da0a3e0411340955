// What this machine is as a node: its lasting id and what it offers.

import { statfsSync } from "node:fs";
import { type Id, idKind, newId } from "@formation-mcp/contract";
import { readFileIfPresent, writeFileAtomic } from "@formation-mcp/os";
import type { Configuration } from "../settings/configuration.ts";
import type { Layout } from "./layout.ts";

/** The id of this state directory's node; it never changes. */
export function nodeId(layout: Layout): Id<"node"> {
  const known = readFileIfPresent(layout.nodeFile)?.trim();
  if (known && idKind(known) === "node") return known as Id<"node">;
  const id = newId("node");
  writeFileAtomic(layout.nodeFile, `${id}\n`);
  return id;
}

/** vCPUs, memory in MiB and disk in GiB that instances and builds may use here. */
export function nodeCapacity({ capacity }: Configuration, layout: Layout) {
  const disk = statfsSync(layout.root);
  const freeGb = Math.floor((disk.bavail * disk.bsize) / 1024 ** 3);
  return { ...capacity, disk_gb: capacity.disk_gb ?? Math.max(freeGb, 1) };
}
