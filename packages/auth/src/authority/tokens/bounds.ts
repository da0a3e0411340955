// Narrowing: a token that is made with another token never has more rights than that one.

import { FormationError, LIMITS } from "@formation-mcp/contract";
import * as z from "zod";
import type { Bounds, Principal } from "../../principals/principal.ts";
import { parseScopes, SCOPES, type Scope } from "../../principals/scopes.ts";

const MAX_INSTANCES = 64;
/** Bounds as JSON: a token has to fit into an HTTP header. */
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
 * The scopes of a token that is made with another one.
 * @param by the principal of the other token.
 * @param asked the scopes asked for. Undefined: all that the other token has.
 * @throws FormationError `forbidden` for a scope that the other token does not have; `invalid` for an unknown
 *   scope.
 */
export function narrowScopes(by: Principal, asked: ReadonlySet<Scope> | undefined): ReadonlySet<Scope> {
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
 * The intersection of two bounds. Undefined if neither is bound.
 * @throws FormationError `forbidden` if the intersection is empty; `invalid` for bounds of the wrong shape or
 *   too long.
 */
export function narrowBounds(by: Bounds | undefined, asked: Bounds | undefined): Bounds | undefined {
  const parsed = asked === undefined ? undefined : boundsShape.safeParse(asked);
  // Parsing drops a pair with the key `__proto__`. Without this check the bounds would be wider than asked
  // for.
  const isComplete = countOf(parsed?.data?.metadata) === countOf(asked?.metadata);
  if (parsed && !(parsed.success && isComplete)) {
    throw new FormationError("invalid", "The bounds are not of the right shape.", {
      remedy: `Give instances (1 to ${MAX_INSTANCES} names), metadata (pairs of text), or both.`,
      field: "bounds",
    });
  }
  const bounds = intersect(by ?? {}, parsed?.data ?? {});
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

function intersect(one: Bounds, other: Bounds): Bounds {
  const both = one.instances && other.instances;
  const instances = both
    ? [...new Set(other.instances)].filter((name) => one.instances?.includes(name))
    : (other.instances ?? one.instances);
  if (both && instances?.length === 0) throw emptyIntersection("bounds.instances");
  for (const [key, value] of Object.entries(other.metadata ?? {})) {
    const fixed = one.metadata && Object.hasOwn(one.metadata, key) ? one.metadata[key] : value;
    if (fixed !== value) throw emptyIntersection("bounds.metadata");
  }
  const metadata = one.metadata || other.metadata ? { ...other.metadata, ...one.metadata } : undefined;
  return { ...(instances ? { instances } : {}), ...(metadata ? { metadata } : {}) };
}

function emptyIntersection(field: string): FormationError {
  return new FormationError("forbidden", "These bounds have nothing in common with the token's own.", {
    remedy: "Ask for a part of what the token itself may touch.",
    field,
  });
}
