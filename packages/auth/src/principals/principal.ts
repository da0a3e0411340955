// A principal: the owner a call acts for and the scopes it may use. Where it comes from is the doors' business.

import { FormationError } from "@formation-mcp/contract";

/** Every scope there is. `admin` sees all owners' records and manages nodes. */
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

export interface Principal {
  /** The account that every record of this call belongs to: `local:<uid>`, or the id of the account's first key. */
  readonly owner: string;
  readonly scopes: ReadonlySet<Scope>;
  /** What a narrowed token may touch beside its scopes; left out, all that the owner has. */
  readonly bounds?: Bounds;
  /** The id of the token that was shown, for the audit log: never the token. */
  readonly credential?: string;
  /** Whether the caller sits on this machine and may name directories of it: over stdio and in process only. */
  readonly local: boolean;
}

/** A fence around a token: every condition given must hold. */
export interface Bounds {
  /** Instances by name: no other can be seen, made or changed. */
  readonly instances?: readonly string[];
  /** Every instance seen, made or changed has these pairs in its metadata; shipping adds them. */
  readonly metadata?: Readonly<Record<string, string>>;
}

/** Every scope but `admin`. */
export function allScopes(): ReadonlySet<Scope> {
  return new Set(SCOPES.filter((scope) => scope !== "admin"));
}

/**
 * The principal of a process on this machine that speaks for its own user.
 * @param uid the user's id, as `process.getuid()` returns it.
 */
export function localPrincipal(uid: number, scopes: ReadonlySet<Scope> = allScopes()): Principal {
  return { owner: `local:${uid}`, scopes, local: true };
}

/**
 * Reads scopes from a list separated by commas or spaces.
 * @throws FormationError `invalid` for a scope that does not exist, naming those that do.
 */
export function parseScopes(text: string): ReadonlySet<Scope> {
  const names = text.split(/[\s,]+/).filter((name) => name !== "");
  for (const name of names) {
    if (!(SCOPES as readonly string[]).includes(name)) {
      throw new FormationError("invalid", `There is no scope ${JSON.stringify(name.slice(0, 40))}.`, {
        remedy: `Use some of: ${SCOPES.join(", ")}.`,
        field: "scopes",
      });
    }
  }
  return new Set(names as Scope[]);
}

/**
 * Lets a call go on if it has the scope; `admin` has every other.
 * @throws FormationError `forbidden`, naming the scope that is missing.
 */
export function requireScope(principal: Principal, scope: Scope): void {
  if (principal.scopes.has(scope) || principal.scopes.has("admin")) return;
  throw new FormationError("forbidden", `This call needs the scope ${scope}.`, {
    remedy: principal.local
      ? `Start the server without --read-only, and with ${scope} among its --scopes.`
      : `Use a token that has ${scope}; if the account lacks it, an admin can grant it.`,
  });
}
