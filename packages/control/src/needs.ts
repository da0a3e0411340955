// What a node must have free for an operation, beyond what the instance has there already.

import type { Instance, Operation } from "@formation-mcp/contract";

type Needs = Operation["needs"];

const NOTHING: Needs = { vcpus: 0, memory_mb: 0, disk_gb: 0 };
/** States in which the machine holds its CPUs and its memory. */
const HOLDS: readonly Instance["state"][] = ["starting", "running", "pausing", "paused", "stopping"];
/** States in which its node counts them as held. */
const COUNTED: readonly Instance["state"][] = [...HOLDS, "lost"];

/** For a ship: all of it on a new instance; where it takes another's place, what it needs more than that one has. */
export function shipNeeds(wanted: Needs, replaced: Instance | null): Needs {
  // One that is being made the first time has no machine yet, and may never get one.
  if (!replaced || replaced.machine_id === null || !HOLDS.includes(replaced.state)) return wanted;
  const { vcpus, memory_mb } = replaced.config.resources;
  return {
    vcpus: Math.max(0, wanted.vcpus - vcpus),
    memory_mb: Math.max(0, wanted.memory_mb - memory_mb),
    disk_gb: wanted.disk_gb, // the old disk stays until the new machine lives
  };
}

/** For a control: CPUs and memory where it starts a machine that has none now; its disk is there already. */
export function controlNeeds(instance: Instance, starts: boolean): Needs {
  if (!starts || COUNTED.includes(instance.state)) return NOTHING;
  const { vcpus, memory_mb } = instance.config.resources;
  return { vcpus, memory_mb, disk_gb: 0 };
}
