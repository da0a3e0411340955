// A build submission for tests and benchmarks: every field that the records need, for the smallest build.

import { type Build, type Id, newId, SUBJECTS } from "@formation-mcp/contract";
import type { NewBuild, Submission } from "@formation-mcp/operations";

const NEEDS = { vcpus: 1, memory_mb: 512, disk_gb: 5 };
const DAY = 86_400_000;

export interface BuildRequest {
  build_id?: Id<"bld">;
  operation?: Partial<Submission["operation"]>;
  formfile?: Partial<Build["formfile"]>;
  /** When it is submitted, in milliseconds. Default: now. */
  now?: number;
}

/** A submission of a new build. Default: of `owner`, called `hello`. */
export function buildRequest({
  build_id = newId("bld"),
  operation,
  formfile,
  now = Date.now(),
}: BuildRequest = {}): Submission & { build: NewBuild } {
  const asked = {
    id: newId("op"),
    owner: "owner",
    tool: "pack_build",
    subject: SUBJECTS.build,
    input: { kind: "build" as const, build_id, no_cache: false },
    target_id: build_id,
    node_id: null,
    needs: NEEDS,
    deadline_at: now + DAY,
    ...operation,
  };
  const name = formfile?.name ?? "hello";
  return {
    operation: asked,
    build: {
      id: build_id,
      owner: asked.owner,
      name,
      state: "queued",
      formfile: {
        from: "busybox",
        name,
        run: [],
        include: [],
        env: {},
        expose: [],
        entrypoint: null,
        resources: NEEDS,
        network: { join_formnet: false, external_networks: [] },
        metadata: {},
        ...formfile,
      },
      context_digest: null,
      image: null,
      warnings: [],
      metadata: {},
      error: null,
      node_id: null,
      used_at: now,
      operation_id: asked.id,
      started_at: null,
      ended_at: null,
    },
  };
}
