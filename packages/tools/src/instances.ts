// The tools about instances, the VMs as users know them.

import { CONTROL_ACTIONS, INSTANCE_STATES, type InstanceState } from "@formation-mcp/contract";
import { z } from "zod";
import * as f from "./shared-fields.ts";
import { READS, type Tool, writes } from "./tool.ts";

const shipped = z.object({
  operation_id: z.string(),
  build_id: z.string(),
  deployment_id: z.string(),
  instance_id: z.string(),
  instance_name: z.string(),
  state: z.string(),
  done: z.boolean(),
  urls: f.strings,
  warnings: f.strings,
  progress: f.progress,
  next: f.next,
});

const changed = z.object({
  /** Absent if there was nothing to do. */
  operation_id: z.string().optional(),
  instance_id: z.string(),
  instance_name: z.string(),
  state: z.string(),
  done: z.boolean(),
  urls: f.strings,
  progress: f.progress,
  next: f.next,
});

export const packShip = {
  name: "pack_ship",
  title: "Run a build as a VM",
  description:
    "Boots a ready build as a VM and returns its URLs once the first exposed port listens (state live). A name in use needs replace: true, which swaps the running VM and boots the old one again if the new one fails.",
  input: z.strictObject({
    build_id: z.string().min(1).max(80),
    instance_name: f.instanceName.optional().describe("Default: the build's name"),
    vm_config: f.vmConfig.optional(),
    replace: z.boolean().default(false),
    target_node: f.targetNode,
    labels: f.labels,
    wait_seconds: f.waitSeconds,
    idempotency_key: f.idempotencyKey,
  }),
  output: shipped,
  scope: "vm:write",
  annotations: writes({ destructiveHint: true, openWorldHint: true }),
} as const satisfies Tool;

export const vmCreate = {
  name: "vm_create",
  title: "Run an image as a VM",
  description:
    "Boots an OCI image as it is as a new VM. With files or build steps of your own use pack_build and pack_ship instead.",
  input: z.strictObject({
    image: z.string().min(1).max(255).describe("OCI reference, or busybox"),
    instance_name: f.instanceName,
    entrypoint: z
      .union([z.string(), z.array(z.string())], { error: "must be a shell line or an argv array" })
      .optional()
      .describe("Default: the image's own"),
    env: z.record(z.string(), z.string()).optional(),
    expose: z.array(z.int()).optional().describe("Guest TCP ports"),
    vm_config: f.vmConfig.optional(),
    target_node: f.targetNode,
    labels: f.labels,
    wait_seconds: f.waitSeconds,
    idempotency_key: f.idempotencyKey,
  }),
  output: shipped,
  scope: "vm:write",
  annotations: writes({ openWorldHint: true }),
} as const satisfies Tool;

export const vmList = {
  name: "vm_list",
  title: "List VMs",
  description: "Lists your instances, newest first, deleted ones only when asked for.",
  input: z.strictObject({
    state: z.enum(Object.keys(INSTANCE_STATES) as [InstanceState, ...InstanceState[]]).optional(),
    metadata: f.metadata.optional().describe("Only with all these pairs"),
    limit: f.limit,
    cursor: f.cursor,
  }),
  output: z.object({
    instances: z.array(
      z.object({
        instance_id: z.string(),
        name: z.string(),
        state: z.string(),
        desired: z.string(),
        urls: f.strings,
      }),
    ),
    cursor: z.string().nullable(),
  }),
  scope: "vm:read",
  annotations: READS,
} as const satisfies Tool;

export const vmStatus = {
  name: "vm_status",
  title: "Look at a VM",
  description:
    "Shows one instance as its node last saw it: state, URLs, internet access, resources, warnings, and what went wrong with a remedy.",
  input: z.strictObject({ instance: f.instance }),
  output: z.object({
    instance_id: z.string(),
    name: z.string(),
    state: z.string(),
    desired: z.string(),
    urls: f.strings,
    endpoints: z.array(z.object({ guest_port: z.number(), url: z.string(), listening: z.boolean() })),
    egress: f.object.nullable(),
    accelerator: z.string().nullable(),
    resources: f.object,
    network: f.object,
    metadata: f.object,
    warnings: f.strings,
    error: f.error.optional(),
    exit_code: z.number().nullable(),
    node: z.string().nullable(),
    build_id: z.string(),
    deployment_id: z.string().nullable(),
    image: z.string().nullable(),
    operation: f.object.optional(),
    created_at: z.string(),
    started_at: z.string().nullable(),
    observed_at: z.string().nullable(),
    log: f.log.optional(),
    next: f.next,
  }),
  scope: "vm:read",
  annotations: READS,
} as const satisfies Tool;

export const vmControl = {
  name: "vm_control",
  title: "Start, stop, restart, pause or resume a VM",
  description: "Changes what an instance does. stop and restart end its processes; its disk stays.",
  input: z.strictObject({
    instance: f.instance,
    action: z.enum(CONTROL_ACTIONS),
    wait_seconds: f.waitSeconds,
    idempotency_key: f.idempotencyKey,
  }),
  output: changed,
  scope: "vm:write",
  annotations: writes({ destructiveHint: true }),
} as const satisfies Tool;

export const vmDelete = {
  name: "vm_delete",
  title: "Delete a VM",
  description:
    "Ends an instance and removes its disk for good; its build stays. Ask the user first unless told to delete.",
  input: z.strictObject({
    instance: f.instance,
    confirm: z.string().max(80).describe("The instance's name, again"),
    wait_seconds: f.waitSeconds,
    idempotency_key: f.idempotencyKey,
  }),
  output: changed,
  scope: "vm:write",
  annotations: writes({ destructiveHint: true, idempotentHint: true }),
} as const satisfies Tool;

export const vmLogs = {
  name: "vm_logs",
  title: "Read a VM's logs",
  description:
    "Returns what the instance's program printed (stdout, stderr) or its kernel (console). Follow with cursor.",
  input: z.strictObject({
    instance: f.instance,
    streams: z
      .array(z.enum(["stdout", "stderr", "console"]))
      .min(1)
      .optional()
      .describe("Default: stdout and stderr"),
    tail: z.int().min(1).max(1000).default(100).describe("Last lines"),
    since: z.string().max(40).optional().describe("ISO 8601, or an age: 30s, 10m, 2h, 1d"),
    grep: z.string().min(1).max(200).optional().describe("Only lines with this text"),
    cursor: f.cursor,
  }),
  output: z.object({
    instance_id: z.string(),
    name: z.string(),
    lines: z.number(),
    log: f.log,
    cursor: z.string(),
    more: z.boolean(),
    next: f.next,
  }),
  scope: "vm:read",
  annotations: READS,
} as const satisfies Tool;
