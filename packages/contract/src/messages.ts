// What travels over the queue: wake-ups that carry only an id, and events that say a record changed.

import { z } from "zod";
import { FormationError } from "./errors.ts";
import { type Id, type IdKind, idKind } from "./ids.ts";
import { LIMITS } from "./limits.ts";
import type { Placement } from "./nodes.ts";

/** The work subjects, beside `vm.control.<node>`. */
export const SUBJECTS = { build: "pack.build", ship: "pack.ship" } as const;

/** The tool that operations name by which a drain moves an instance; a stop of that name changes nothing of what its owner desires. */
export const DRAIN_TOOL = "node_drain";

/** The subject that wakes one node: a node id is letters, digits and `_` alone, so it is a legal subject token. */
export function controlSubject(node: Id<"node">): string {
  if (idKind(node) !== "node") throw new FormationError("invalid", "A control subject needs a node id.");
  return `vm.control.${node}`;
}

const wakeSchema = z.strictObject({
  v: z.literal(1),
  operation_id: z.string().refine((text) => idKind(text) === "op", "not an operation id"),
});

/** The body of every message on a work subject: it wakes, it does not tell. */
export interface WakeMessage {
  v: 1;
  operation_id: Id<"op">;
}

/**
 * Reads a wake-up.
 * @throws FormationError `invalid` if it is not one; the message belongs among the dead letters then.
 */
export function parseWakeMessage(body: unknown): WakeMessage {
  const parsed = wakeSchema.safeParse(body);
  if (parsed.success) return parsed.data as WakeMessage;
  throw new FormationError(
    "invalid",
    `Not a wake-up message: ${parsed.error.issues[0]?.message ?? "unreadable"}.`,
  );
}

/** An event for the workers of all nodes. */
export const ALL_NODES = "nodes";

/** Says that a record changed; whoever cares reads the record. */
export interface ChangeEvent {
  v: 1;
  /** The record that changed. */
  id: Id;
  owner: string;
  /** Its new version, if the sender knows it. */
  version?: number;
  /** A queued operation that the node it woke could not take: whom this suits may look for it, once. */
  wanted?: Placement;
  /** Which workers hear it: one node's, or all. Default: none. Servers hear every event. */
  for?: Id<"node"> | typeof ALL_NODES;
}

const idText = (kind?: IdKind) =>
  z.string().refine((text) => (kind ? idKind(text) === kind : idKind(text) !== undefined), "not an id");
const amount = z.number().nonnegative();
const eventSchema = z.object({
  v: z.literal(1),
  id: idText(),
  owner: z.string().max(1_000),
  version: z.int().optional(),
  wanted: z
    .object({
      node_id: idText("node").nullable(),
      labels: z
        .record(z.string(), z.string())
        .refine((labels) => Object.keys(labels).length <= LIMITS.labels, "too many labels"),
      needs: z.object({ vcpus: amount, memory_mb: amount, disk_gb: amount }),
    })
    .optional(),
  for: z.union([idText("node"), z.literal(ALL_NODES)]).optional(),
});

/** Reads an event that anybody may have sent; undefined if it is none. What a newer sender added is left out. */
export function parseChangeEvent(body: unknown): ChangeEvent | undefined {
  return eventSchema.safeParse(body).data as ChangeEvent | undefined;
}
