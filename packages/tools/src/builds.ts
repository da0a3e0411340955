// The tools about formfiles and builds.

import { BUILD_STATES, type BuildState } from "@formation-mcp/contract";
import { z } from "zod";
import * as f from "./shared-fields.ts";
import { READS, type Tool, writes } from "./tool.ts";

const text = { type: "string" };
const texts = { type: "array", items: text };
const count = { type: "integer" };
const map = { type: "object", additionalProperties: text };

/**
 * The schema accepts any formfile: the language's own parser reports every issue with its place, which a
 * schema check before it would hide. Hosts see this short description of the language. A test compares it
 * with the language itself, because loading the parser only to list the tools would slow down every start.
 */
const formfile = z.unknown().meta({
  description:
    "Formfile as object, JSON or YAML text. from: OCI image (debian:12), busybox or scratch; name: a-z0-9-; run: shell lines at build; include: context paths to copy in, no globs, . is all; entrypoint: shell string or argv; expose: TCP ports",
  anyOf: [
    {
      type: "object",
      properties: {
        from: text,
        name: text,
        run: texts,
        include: texts,
        env: map,
        expose: { type: "array", items: count },
        entrypoint: { anyOf: [text, texts] },
        resources: {
          type: "object",
          properties: { vcpus: count, memory_mb: count, disk_gb: count },
          description: "Default 1, 512, 5",
        },
        network: {
          type: "object",
          properties: { join_formnet: { type: "boolean" }, external_networks: texts },
        },
        metadata: map,
      },
      required: ["from"],
      additionalProperties: false,
    },
    text,
  ],
});

const file = z.union([z.string(), z.strictObject({ base64: z.string() })], {
  error: "must be a text, or {base64: …} for bytes",
});

export const packBuild = {
  name: "pack_build",
  title: "Build a workload",
  description:
    "Builds a Formfile and the files it includes into a bootable image. Start here to run your own code in a VM; set dry_run to check the formfile first. When state is ready, call pack_ship with build_id; when done is false, call operation_get.",
  input: z.strictObject({
    formfile,
    context_files: z
      .record(z.string(), file)
      .optional()
      .describe("Included files: path → text or {base64}; 2 MiB in all"),
    context_dir: z
      .string()
      .min(1)
      .max(4096)
      .optional()
      .describe("Instead: directory, over stdio only, where allowed"),
    context_id: z.string().min(1).max(80).optional().describe("Instead: an uploaded context, ctx_…"),
    dry_run: z.boolean().default(false).describe("Only validate"),
    no_cache: z.boolean().default(false),
    labels: f.labels,
    wait_seconds: f.waitSeconds,
    idempotency_key: f.idempotencyKey,
  }),
  output: z.object({
    build_id: z.string().optional(),
    operation_id: z.string().optional(),
    name: z.string(),
    state: z.enum(["valid", ...(Object.keys(BUILD_STATES) as BuildState[])]),
    done: z.boolean(),
    warnings: f.strings,
    formfile: f.object.optional(),
    image: f.object.optional(),
    progress: f.progress,
    next: f.next,
  }),
  scope: "pack:write",
  annotations: writes({ openWorldHint: true }),
} as const satisfies Tool;

export const buildList = {
  name: "build_list",
  title: "List builds",
  description: "Lists your builds, newest first.",
  input: z.strictObject({
    state: z.enum(Object.keys(BUILD_STATES) as [BuildState, ...BuildState[]]).optional(),
    name: z.string().max(63).optional(),
    limit: f.limit,
    cursor: f.cursor,
  }),
  output: z.object({
    builds: z.array(
      z.object({ build_id: z.string(), name: z.string(), state: z.string(), created_at: z.string() }),
    ),
    cursor: z.string().nullable(),
  }),
  scope: "pack:read",
  annotations: READS,
} as const satisfies Tool;

export const buildGet = {
  name: "build_get",
  title: "Look at a build",
  description: "Shows a build: state, error with remedy, image, formfile, and the end of its log.",
  input: z.strictObject({
    build_id: z.string().min(1).max(80),
    log_tail: z.int().min(0).max(500).default(40).describe("Last log lines to return"),
  }),
  output: z.object({
    build_id: z.string(),
    name: z.string(),
    state: z.string(),
    warnings: f.strings,
    error: f.error.optional(),
    formfile: f.object,
    image: f.object.optional(),
    metadata: f.object,
    operation_id: z.string(),
    created_at: z.string(),
    ended_at: z.string().nullable(),
    expires_at: z.string().nullable(),
    log: f.log,
    next: f.next,
  }),
  scope: "pack:read",
  annotations: READS,
} as const satisfies Tool;
