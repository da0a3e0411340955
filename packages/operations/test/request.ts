// A request to build, as the tests of several processes send it.

import { newId } from "@formation-mcp/contract";
import type { Submission } from "@formation-mcp/operations";

export function buildRequest(): Submission & { build: object } {
  const now = Date.now();
  const build_id = newId("bld");
  const operation_id = newId("op");
  const needs = { vcpus: 1, memory_mb: 512, disk_gb: 5 };
  return {
    operation: {
      id: operation_id,
      owner: "owner",
      tool: "pack_build",
      subject: "pack.build",
      input: { kind: "build", build_id, no_cache: false },
      target_id: build_id,
      node_id: null,
      needs,
      deadline_at: now + 86_400_000,
    },
    build: {
      id: build_id,
      owner: "owner",
      name: "hello",
      state: "queued",
      formfile: {
        from: "busybox",
        name: "hello",
        run: [],
        include: [],
        env: {},
        expose: [],
        entrypoint: null,
        resources: needs,
        network: { join_formnet: false, external_networks: [] },
        metadata: {},
      },
      context_digest: null,
      image: null,
      warnings: [],
      metadata: {},
      error: null,
      node_id: null,
      used_at: now,
      operation_id,
      started_at: null,
      ended_at: null,
    },
  };
}
