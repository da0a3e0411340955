// The `WWW-Authenticate` header: what a client needs to find the authorization server, and to ask it for the
// right scopes (RFC 6750 §3, RFC 9728 §5.1, and MCP's "Scope Challenge Handling").

import { allScopes, type Scope } from "@formation-mcp/auth";

/**
 * The scopes that a client without a token should ask for: reading. It asks for more when a call needs it.
 */
export const BASIC_SCOPES: readonly Scope[] = ["pack:read", "vm:read", "operation:read"];

/** The first MCP revision whose clients ask a person for the scope that a call lacked (step-up). */
const STEP_UP_REVISION = "2026-07-28";

/**
 * The scopes that a client of the MCP endpoint should ask for first. A client of an older revision cannot
 * step up, so it is told all the scopes that it may come to need.
 * @param revision its `MCP-Protocol-Version` header.
 */
export function initialScopes(revision: string | undefined): readonly Scope[] {
  return revision !== undefined && revision >= STEP_UP_REVISION ? BASIC_SCOPES : [...allScopes()];
}

export interface BearerChallenge {
  /** RFC 6750 §3.1; absent if the request had no token. */
  error?: "invalid_token" | "insufficient_scope";
  description?: string;
  scopes: readonly string[];
}

/** The URL of the protected resource metadata (RFC 9728 §3.1). */
export function resourceMetadataUrl(publicUrl: string): string {
  return `${publicUrl}/.well-known/oauth-protected-resource/mcp`;
}

/** The header's value: a `Bearer` challenge. */
export function wwwAuthenticate(publicUrl: string, { error, description, scopes }: BearerChallenge): string {
  const parts = [
    ...(error ? [`error="${error}"`] : []),
    ...(description ? [`error_description="${quotable(description)}"`] : []),
    `scope="${scopes.join(" ")}"`,
    `resource_metadata="${resourceMetadataUrl(publicUrl)}"`,
  ];
  return `Bearer ${parts.join(", ")}`;
}

/** The characters that an error description may have (RFC 6750 §3: %x20-21 / %x23-5B / %x5D-7E). */
function quotable(text: string): string {
  return text.replace(/[^\x20-\x21\x23-\x5b\x5d-\x7e]/g, "").slice(0, 200);
}
