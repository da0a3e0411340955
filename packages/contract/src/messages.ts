// The messages of the queue: wake-ups, which carry only an operation's id, and events, which say that a
// record changed.

import { z } from "zod";
import { FormationError } from "./errors.ts";
import { type Id, type IdKind, idKind } from "./ids.ts";
import { LIMITS } from "./limits.ts";
import type { Placement } from "./nodes.ts";

/** The subjects of wake-ups for any node. The others are `vm.control.<node>`. */
export const SUBJECTS = { build: "pack.build", ship: "pack.ship" } as const;

/**
 * The `tool` of operations that move an instance because of a drain. Its stop leaves `desired` at `running`.
 */
export const DRAIN_TOOL = "node_drain";

/**
 * The subject of wake-ups for one node. A node id consists of letters, digits and `_`, so it is a valid
 * subject token.
 * @throws FormationError `invalid` if the text is not a node id.
 */
export function controlSubject(node: Id<"node">): string {
  if (idKind(node) !== "node") throw new FormationError("invalid", "A control subject needs a node id.");
  return `vm.control.${node}`;
}

const wakeSchema = z.strictObject({
  v: z.literal(1),
  operation_id: z.string().refine((text) => idKind(text) === "op", "not an operation id"),
});

/** The body of every wake-up. All else is read from the store. */
export interface WakeMessage {
  v: 1;
  operation_id: Id<"op">;
}

/**
 * Parses the body of a wake-up.
 * @throws FormationError `invalid` if it is not one; the message then becomes a dead letter.
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

/** Says that a record changed. A subscriber reads the record from the store. */
export interface ChangeEvent {
  v: 1;
  /** The record that changed. */
  id: Id;
  owner: string;
  /** Its new version, if the sender knows it. */
  version?: number;
  /**
   * A queued operation that the woken node could not claim. A node that suits this placement looks for work
   * once.
   */
  wanted?: Placement;
  /** Which workers receive it: those of one node, or all. Default: none. Servers receive every event. */
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

/** Parses an event from an untrusted sender; undefined if it is not one. Unknown fields are dropped. */
export function parseChangeEvent(body: unknown): ChangeEvent | undefined {
  return eventSchema.safeParse(body).data as ChangeEvent | undefined;
}
