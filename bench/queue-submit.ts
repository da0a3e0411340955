// What the comparisons submit: the smallest build there is, in the store of any driver.

import { newId, SUBJECTS } from "@formation-mcp/contract";
import type { Store } from "@formation-mcp/operations";

const OWNER = "bench";
const NOTHING = { vcpus: 0, memory_mb: 0, disk_gb: 0 };

/** A build that waits in the store, and whose wake-up nobody sent yet. */
export async function submit(store: Store): Promise<ReturnType<typeof newId<"op">>> {
  const [id, build] = [newId("op"), newId("bld")];
  await store.submit({
    operation: {
      id,
      owner: OWNER,
      tool: "pack_build",
      subject: SUBJECTS.build,
      input: { kind: "build", build_id: build, no_cache: false },
      target_id: build,
      node_id: null,
      labels: {},
      needs: NOTHING,
      deadline_at: Date.now() + 3_600_000,
    },
    build: {
      id: build,
      owner: OWNER,
      name: "bench",
      state: "queued",
      formfile: {
        from: "busybox",
        name: "bench",
        run: [],
        include: [],
        env: {},
        expose: [],
        entrypoint: ["/bin/true"],
        resources: { vcpus: 1, memory_mb: 128, disk_gb: 1 },
        network: { join_formnet: false, external_networks: [] },
        metadata: {},
      },
      context_digest: null,
      image: null,
      warnings: [],
      metadata: {},
      error: null,
      node_id: null,
      used_at: Date.now(),
      operation_id: id,
      started_at: null,
      ended_at: null,
    },
  });
  return id;
}
