// The tools about operations, the records of long actions.

import { OPERATION_STATES, type OperationState } from "@formation-mcp/contract";
import { z } from "zod";
import * as f from "./shared-fields.ts";
import { READS, type Tool, writes } from "./tool.ts";

export const operationGet = {
  name: "operation_get",
  title: "Follow an operation",
  description:
    "Tells how a long action goes, waiting for its end up to wait_seconds. Takes an op_, bld_, dep_ or vm_ id. Repeat until done is true; a failure is told in error.",
  input: z.strictObject({
    id: z.string().min(1).max(80),
    wait_seconds: f.waitSeconds,
  }),
  output: z.object({
    operation_id: z.string().nullable(),
    tool: z.string().nullable(),
    state: z.string(),
    done: z.boolean(),
    record: z.object({ id: z.string(), name: z.string(), state: z.string() }).optional(),
    urls: f.strings,
    progress: f.progress,
    error: f.error.optional(),
    cancel_requested: z.boolean(),
    created_at: z.string().nullable(),
    ended_at: z.string().nullable(),
    log: f.log.optional(),
    next: f.next,
  }),
  scope: "operation:read",
  annotations: READS,
} as const satisfies Tool;

export const operationList = {
  name: "operation_list",
  title: "List operations",
  description: "Lists recent operations, newest first; they are kept for an hour after their end.",
  input: z.strictObject({
    state: z.enum(Object.keys(OPERATION_STATES) as [OperationState, ...OperationState[]]).optional(),
    target: z.string().max(80).optional().describe("Only about this bld_ or vm_ id"),
    limit: f.limit,
    cursor: f.cursor,
  }),
  output: z.object({
    operations: z.array(
      z.object({
        operation_id: z.string(),
        tool: z.string(),
        state: z.string(),
        target_id: z.string(),
        created_at: z.string(),
      }),
    ),
    cursor: z.string().nullable(),
  }),
  scope: "operation:read",
  annotations: READS,
} as const satisfies Tool;

export const operationCancel = {
  name: "operation_cancel",
  title: "Cancel an operation",
  description:
    "Asks an operation to stop, its build or boot included. A finished one is left as it is. Confirm with operation_get.",
  input: z.strictObject({ operation_id: z.string().min(1).max(80) }),
  output: z.object({
    operation_id: z.string(),
    state: z.string(),
    done: z.boolean(),
    cancel_requested: z.boolean(),
    next: f.next,
  }),
  scope: "operation:write",
  annotations: writes({ destructiveHint: true, idempotentHint: true }),
} as const satisfies Tool;
