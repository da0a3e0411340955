// A principal: the account that a call acts for, and what the call may do. This folder knows principals,
// scopes and the check of a scope; who turns a request into a principal is decided elsewhere (`./authority`,
// or the local user).

import { FormationError } from "@formation-mcp/contract";
import { allScopes, type Scope } from "./scopes.ts";

export interface Principal {
  /** The account that owns every record of this call: `local:<uid>`, or the id of the account's first key. */
  readonly owner: string;
  readonly scopes: ReadonlySet<Scope>;
  /** What a narrowed token may touch, in addition to its scopes. Absent: everything that the owner has. */
  readonly bounds?: Bounds;
  /** The id of the token that authenticated the call, for the audit log. Never the token itself. */
  readonly tokenId?: string;
  /**
   * Whether the caller runs on this machine and may name its directories: true over stdio and in process
   * only.
   */
  readonly local: boolean;
}

/** The limits of a narrowed token. Every condition that is present must hold. */
export interface Bounds {
  /** Instance names. Instances with other names cannot be seen, created or changed. */
  readonly instances?: readonly string[];
  /** Metadata that every instance seen, created or changed must have. Shipping adds it to new instances. */
  readonly metadata?: Readonly<Record<string, string>>;
}

/**
 * The principal of a process on this machine that acts for its own user.
 * @param uid the user's id, as `process.getuid()` returns it.
 */
export function localPrincipal(uid: number, scopes: ReadonlySet<Scope> = allScopes()): Principal {
  return { owner: `local:${uid}`, scopes, local: true };
}

/**
 * Returns if the principal has the scope. `admin` includes every other scope.
 * @throws FormationError `forbidden`; the message names the missing scope.
 */
export function requireScope(principal: Principal, scope: Scope): void {
  if (principal.scopes.has(scope) || principal.scopes.has("admin")) return;
  throw new FormationError("forbidden", `This call needs the scope ${scope}.`, {
    remedy: principal.local
      ? `Start the server without --read-only, and with ${scope} among its --scopes.`
      : `Use a token that has ${scope}; if the account lacks it, an admin can grant it.`,
  });
}
