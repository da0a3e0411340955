// The scopes: the names of the rights that accounts, tokens and principals carry.

import { FormationError } from "@formation-mcp/contract";

/** Every scope. `admin` sees all owners' records and manages nodes. */
export const SCOPES = [
  "pack:read",
  "pack:write",
  "vm:read",
  "vm:write",
  "operation:read",
  "operation:write",
  "admin",
] as const;

export type Scope = (typeof SCOPES)[number];

/** Every scope except `admin`. */
export function allScopes(): ReadonlySet<Scope> {
  return new Set(SCOPES.filter((scope) => scope !== "admin"));
}

/** Whether a text is the name of a scope. */
export function isScope(text: string): text is Scope {
  return (SCOPES as readonly string[]).includes(text);
}

/** The scopes of a set as a list, in the order of {@link SCOPES}. */
export function sortScopes(scopes: ReadonlySet<Scope>): Scope[] {
  return SCOPES.filter((scope) => scopes.has(scope));
}

/**
 * Reads scopes from a list that is separated by commas or white space.
 * @throws FormationError `invalid` for an unknown scope; the remedy lists the known ones.
 */
export function parseScopes(text: string): ReadonlySet<Scope> {
  const names = text.split(/[\s,]+/).filter((name) => name !== "");
  for (const name of names) {
    if (!isScope(name)) {
      throw new FormationError("invalid", `There is no scope ${JSON.stringify(name.slice(0, 40))}.`, {
        remedy: `Use some of: ${SCOPES.join(", ")}.`,
        field: "scopes",
      });
    }
  }
  return new Set(names as Scope[]);
}
