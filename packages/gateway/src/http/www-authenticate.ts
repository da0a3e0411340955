// The words of `WWW-Authenticate`: what a client needs to find the authorization server and to ask it for the right scopes
// (RFC 6750 §3, RFC 9728 §5.1, and MCP's "Scope Challenge Handling").

import { allScopes, type Scope } from "@formation-mcp/auth";

/** What a client that brings no token should ask for: reading. The rest comes when a call needs it. */
export const BASIC_SCOPES: readonly Scope[] = ["pack:read", "vm:read", "operation:read"];

/** The first revision of MCP whose clients ask a person for the scope that a call lacked. */
const STEPS_UP = "2026-07-28";

/**
 * What a client of the MCP endpoint should ask for first. One of an older revision renews its token when a scope lacks, and
 * gives up: it is told at once of all that it may come to need.
 * @param revision its `MCP-Protocol-Version`.
 */
export function firstScopes(revision: string | undefined): readonly Scope[] {
  return revision !== undefined && revision >= STEPS_UP ? BASIC_SCOPES : [...allScopes()];
}

export interface Challenge {
  /** RFC 6750 §3.1; absent if no token was shown. */
  error?: "invalid_token" | "insufficient_scope";
  description?: string;
  scopes: readonly string[];
}

/** Where the metadata of the protected resource is (RFC 9728 §3.1). */
export function resourceMetadataUrl(publicUrl: string): string {
  return `${publicUrl}/.well-known/oauth-protected-resource/mcp`;
}

/** The header's value. */
export function challengeHeader(publicUrl: string, { error, description, scopes }: Challenge): string {
  const parts = [
    ...(error ? [`error="${error}"`] : []),
    ...(description ? [`error_description="${quotable(description)}"`] : []),
    `scope="${scopes.join(" ")}"`,
    `resource_metadata="${resourceMetadataUrl(publicUrl)}"`,
  ];
  return `Bearer ${parts.join(", ")}`;
}

/** What may stand in an error description (RFC 6750 §3: %x20-21 / %x23-5B / %x5D-7E). */
function quotable(text: string): string {
  return text.replace(/[^\x20-\x21\x23-\x5b\x5d-\x7e]/g, "").slice(0, 200);
}
