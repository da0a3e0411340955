// Shrinking: what a token made by another may do is never more than what that one may.

import { FormationError, LIMITS } from "@formation-mcp/contract";
import * as z from "zod";
import { type Bounds, type Principal, parseScopes, SCOPES, type Scope } from "../../principals/principal.ts";

const MAX_INSTANCES = 64;
/** A token has to fit into a header. */
const MAX_BYTES = 3 * 1024;

const label = z.string().min(1).max(LIMITS.metadataBytes);

/** Bounds as a token carries them. */
export const boundsShape = z.strictObject({
  instances: z.array(label).min(1).max(MAX_INSTANCES).optional(),
  metadata: z
    .record(label, z.string().max(LIMITS.metadataBytes))
    .refine((pairs) => Object.keys(pairs).length <= LIMITS.metadataKeys)
    .optional(),
}) as z.ZodType<Bounds>;

/**
 * The scopes asked for, or all that the maker has.
 * @throws FormationError `forbidden` for one that the maker has not; `invalid` for one that does not exist.
 */
export function shrinkScopes(by: Principal, asked: ReadonlySet<Scope> | undefined): ReadonlySet<Scope> {
  const has = (scope: Scope) => by.scopes.has(scope) || by.scopes.has("admin");
  const scopes = asked === undefined ? by.scopes : parseScopes([...asked].join(" "));
  for (const scope of scopes) {
    if (has(scope)) continue;
    throw new FormationError(
      "forbidden",
      `A token can't hand on the scope ${scope} that it has not itself.`,
      {
        remedy: `Ask for some of: ${SCOPES.filter(has).join(", ")}.`,
        field: "scopes",
      },
    );
  }
  return scopes;
}

/**
 * Bounds within which both hold, or undefined if neither is bound.
 * @throws FormationError `forbidden` if nothing would be left; `invalid` for bounds of the wrong shape or too long.
 */
export function shrinkBounds(by: Bounds | undefined, asked: Bounds | undefined): Bounds | undefined {
  const wanted = asked === undefined ? undefined : boundsShape.safeParse(asked);
  // A pair that parsing leaves out (`__proto__`) would be a fence less than was asked for.
  const kept = countOf(wanted?.data?.metadata) === countOf(asked?.metadata);
  if (wanted && !(wanted.success && kept)) {
    throw new FormationError("invalid", "The bounds are not of the right shape.", {
      remedy: `Give instances (1 to ${MAX_INSTANCES} names), metadata (pairs of text), or both.`,
      field: "bounds",
    });
  }
  const bounds = meet(by ?? {}, wanted?.data ?? {});
  if (JSON.stringify(bounds).length > MAX_BYTES) {
    throw new FormationError("invalid", "The bounds are too long for a token.", {
      remedy: `Keep them below ${MAX_BYTES} bytes; bind by a pair of metadata instead of by many names.`,
      field: "bounds",
    });
  }
  return bounds.instances || bounds.metadata ? bounds : undefined;
}

function countOf(pairs: unknown): number {
  return typeof pairs === "object" && pairs !== null ? Object.keys(pairs).length : 0;
}

function meet(one: Bounds, other: Bounds): Bounds {
  const both = one.instances && other.instances;
  const instances = both
    ? [...new Set(other.instances)].filter((name) => one.instances?.includes(name))
    : (other.instances ?? one.instances);
  if (both && instances?.length === 0) throw outside("bounds.instances");
  for (const [key, value] of Object.entries(other.metadata ?? {})) {
    const fixed = one.metadata && Object.hasOwn(one.metadata, key) ? one.metadata[key] : value;
    if (fixed !== value) throw outside("bounds.metadata");
  }
  const metadata = one.metadata || other.metadata ? { ...other.metadata, ...one.metadata } : undefined;
  return { ...(instances ? { instances } : {}), ...(metadata ? { metadata } : {}) };
}

function outside(field: string): FormationError {
  return new FormationError("forbidden", "These bounds have nothing in common with the token's own.", {
    remedy: "Ask for a part of what the token itself may touch.",
    field,
  });
}
