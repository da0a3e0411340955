// Placement: which labels are valid, whether a node suits an operation, and whether a node is heard from.

import type { Resources } from "@formation-mcp/formfile";
import { FormationError } from "./errors.ts";
import type { Id } from "./ids.ts";
import { LIMITS } from "./limits.ts";

/**
 * What a drain does with the instances of its node: leaves them, stops them, or ships them to other nodes.
 */
export const DRAINS = ["keep", "stop", "move"] as const;
export type Drain = (typeof DRAINS)[number];

/** What a node must have to be given an operation. */
export interface Placement {
  /** The only node that may claim it; null for any. */
  node_id: Id<"node"> | null;
  /** Labels that the node must have, all of them. */
  labels: Readonly<Record<string, string>>;
  needs: Resources;
}

const KEY = /^[a-z0-9]([a-z0-9._/-]{0,61}[a-z0-9])?$/;
const VALUE = /^([A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?$/;

/**
 * Returns the labels if all are valid: keys of 1 to 63 lower-case letters, digits and `. _ / -`, values of at
 * most 63 letters, digits and `. _ -`. Both begin and end with a letter or digit.
 * @throws FormationError `invalid`
 */
export function checkLabels(labels: Record<string, string>, field = "labels"): Record<string, string> {
  const pairs = Object.entries(labels);
  if (pairs.length > LIMITS.labels) {
    throw new FormationError("invalid", `${field}: ${pairs.length} labels; at most ${LIMITS.labels}.`, {
      field,
    });
  }
  for (const [key, value] of pairs) {
    if (KEY.test(key) && VALUE.test(value)) continue;
    const shown = JSON.stringify(`${key}=${value}`.slice(0, 140));
    throw new FormationError("invalid", `${field}: ${shown} is no label.`, {
      field,
      remedy:
        "Write keys in a-z, 0-9 and ._/-, values in letters, digits and ._-, each at most 63 characters.",
    });
  }
  return labels;
}

/** Whether a node has all the labels that are wanted. */
export function hasLabels(
  has: Readonly<Record<string, string>>,
  wanted: Readonly<Record<string, string>>,
): boolean {
  return Object.entries(wanted).every(([key, value]) => Object.hasOwn(has, key) && has[key] === value);
}

/** Whether one amount of resources is enough for another. */
export function covers(has: Resources, needs: Resources): boolean {
  return has.vcpus >= needs.vcpus && has.memory_mb >= needs.memory_mb && has.disk_gb >= needs.disk_gb;
}

/** Whether a node could run an operation if nothing else ran on it. */
export function suits(
  node: { id: Id<"node">; labels: Record<string, string>; capacity: Resources },
  { node_id, labels, needs }: Placement,
): boolean {
  return (node_id ?? node.id) === node.id && hasLabels(node.labels, labels) && covers(node.capacity, needs);
}

/** Whether a node's heartbeat is recent. A silent node is not counted on, and its instances are lost. */
export function isHeard(node: { heartbeat_at: number }, now: number): boolean {
  return now - node.heartbeat_at < LIMITS.nodeSilentMs;
}
