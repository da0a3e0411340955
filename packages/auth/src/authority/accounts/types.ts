// The records of accounts and their keys, as they are stored and as callers see them.

import type { Scope } from "../../principals/scopes.ts";

/** A key of an account. `id` is an EIP-55 address (secp256k1) or `key:<RFC 7638 thumbprint>` (Ed25519). */
export interface AccountKey {
  id: string;
  kind: "ed25519" | "secp256k1";
  label: string | null;
  /** Milliseconds since the epoch. */
  created_at: number;
  /** When the key was last revoked, in milliseconds: every token of this key made up to then is void. */
  revoked_at: number | null;
}

/** An account. Its id is the id of its first key, and the `owner` of its records. */
export interface Account {
  owner: string;
  scopes: Scope[];
  keys: AccountKey[];
  /** Milliseconds since the epoch. */
  created_at: number;
  /**
   * When the account was last revoked, in milliseconds: every token of the account made up to then is void.
   */
  revoked_at: number | null;
}
