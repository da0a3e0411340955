// The directories of a worker process in tests, and how its drivers are opened.

import { mkdirSync } from "node:fs";
import { join } from "node:path";
import type { Builder } from "@formation-mcp/builder";
import type { Hypervisor } from "@formation-mcp/hypervisor";

export type Drivers = "fake" | "real";

export interface Site {
  root: string;
  store: string;
  queue: string;
  artifacts: string;
  scratch: string;
  builder: string;
  hypervisor: string;
  lock: string;
  node: string;
}

/** @param shared the directory that all nodes share. Default: there is one node. */
export function siteAt(root: string, shared = root): Site {
  return {
    root,
    store: join(shared, "store.db"),
    queue: join(shared, "queue.db"),
    artifacts: join(shared, "artifacts"),
    scratch: join(root, "scratch"),
    builder: join(root, "b"),
    hypervisor: join(root, "h"),
    lock: join(root, "worker.lock"),
    node: join(root, "node"),
  };
}

export async function openBuilder(site: Site, drivers: Drivers): Promise<Builder> {
  if (drivers === "real") {
    const { openBuildahBuilder } = await import("@formation-mcp/builder/buildah");
    return openBuildahBuilder({ stateDir: site.builder });
  }
  const { openFakeBuilder } = await import("@formation-mcp/builder/fake");
  return openFakeBuilder({ stateDir: site.builder });
}

export async function openHypervisor(site: Site, drivers: Drivers): Promise<Hypervisor> {
  mkdirSync(site.hypervisor, { recursive: true, mode: 0o700 });
  if (drivers === "real") {
    const { openQemuHypervisor } = await import("@formation-mcp/hypervisor/qemu");
    return openQemuHypervisor({ stateDir: site.hypervisor });
  }
  const { openFakeHypervisor } = await import("@formation-mcp/hypervisor/fake");
  return openFakeHypervisor({ stateDir: site.hypervisor });
}
