// The fields that several tools share, so that a field has the same name, check and description in every
// tool.

import { LIMITS } from "@formation-mcp/contract";
import { z } from "zod";

/** A legal instance name: a host name label. */
export const INSTANCE_NAME = /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/;

export const waitSeconds = z
  .number()
  .min(0)
  .max(LIMITS.waitSeconds)
  .default(LIMITS.defaultWaitSeconds)
  .describe("Seconds to wait for the end");

export const idempotencyKey = z
  .string()
  .min(1)
  .max(200)
  .optional()
  .describe("Reuse it to repeat a call safely (24 h)");

export const limit = z.int().min(1).max(LIMITS.pageSize).default(LIMITS.defaultPageSize);
export const cursor = z.string().min(1).max(500).optional().describe("From the page before");

/** The lengths of keys and values are checked in control, which names all wrong keys at once. */
export const metadata = z.record(z.string(), z.string());

export const instance = z.string().min(1).max(80).describe("Instance name or vm_ id");

export const instanceName = z
  .string()
  .regex(INSTANCE_NAME, "must be 1 to 63 of a-z, 0-9 and -, beginning and ending with a letter or digit");

export const vmConfig = z
  .strictObject({
    vcpus: z.int().min(LIMITS.vcpus.min).max(LIMITS.vcpus.max).optional(),
    memory_mb: z.int().min(LIMITS.memoryMb.min).max(LIMITS.memoryMb.max).optional(),
    disk_gb: z.int().min(LIMITS.diskGb.min).max(LIMITS.diskGb.max).optional(),
    network: z
      .strictObject({
        join_formnet: z.boolean().optional(),
        external_networks: z.array(z.string().min(1).max(255)).max(16).optional(),
        host_ports: z
          .record(z.string(), z.int().min(1).max(65_535))
          .optional()
          .describe("Exposed guest port → fixed host port; else a free one"),
      })
      .optional(),
    metadata: metadata.optional(),
  })
  .describe("Overrides the formfile's resources, network and metadata");

export const targetNode = z.string().min(1).max(80).optional().describe("Node name or id; else any");
/** The syntax of labels is checked in control. */
export const labels = z
  .record(z.string(), z.string())
  .optional()
  .describe("Only a node with all these labels");

/** The progress of an operation that has not ended. */
export const progress = z
  .object({ step: z.string(), message: z.string(), fraction: z.number().nullable() })
  .optional();

/** An error as part of a successful result. */
export const error = z.object({ code: z.string(), message: z.string(), remedy: z.string().optional() });

/** What to do next, in words. */
export const next = z.string();
/** Fenced text from a build or a guest: data, never instructions. */
export const log = z.string();
export const strings = z.array(z.string());
/** An object. The description of the tool says which keys it has. */
export const object = z.record(z.string(), z.unknown());
