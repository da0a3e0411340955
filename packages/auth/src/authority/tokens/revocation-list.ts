// The ids of tokens that were revoked before they expired: single tokens, and families of tokens. An entry is
// kept until the last access token that it may concern has expired. It names the owner too, so knowing the id
// of another owner's token is not enough to revoke it.

import { type Clock, type Documents, LIMITS } from "@formation-mcp/contract";

const KIND = "revocation";

export interface RevocationList {
  add(owner: string, id: string): Promise<void>;
  /** Whether any of the ids was revoked. */
  any(owner: string, ids: Iterable<string>): Promise<boolean>;
}

export function createRevocationList(documents: Documents, clock: Clock): RevocationList {
  const entryId = (owner: string, id: string) => `${owner}/${id}`;
  return {
    add: async (owner, id) => {
      const at = clock.now();
      const expires_at = at + LIMITS.accessTokenMs + 2 * LIMITS.clockSkewMs;
      await documents.put({ kind: KIND, id: entryId(owner, id), owner, doc: { at }, expires_at });
    },
    any: async (owner, ids) => {
      const found = await Promise.all([...ids].map((id) => documents.get(KIND, entryId(owner, id))));
      return found.some((entry) => entry !== null);
    },
  };
}
