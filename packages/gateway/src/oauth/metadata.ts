// The authorization server metadata (RFC 8414 §2). Every URL in it comes from the configured issuer, never
// from a request.

import { CHALLENGE_GRANT } from "./provider/clients.ts";
import { DEFAULT_SCOPES } from "./provider/scopes.ts";

/**
 * The document at `/.well-known/oauth-authorization-server`; some clients look at `openid-configuration` for
 * it.
 */
export function serverMetadata(issuer: string): Record<string, unknown> {
  return {
    issuer,
    authorization_endpoint: `${issuer}/oauth/authorize`,
    token_endpoint: `${issuer}/oauth/token`,
    jwks_uri: `${issuer}/oauth/jwks`,
    registration_endpoint: `${issuer}/oauth/register`,
    revocation_endpoint: `${issuer}/oauth/revoke`,
    scopes_supported: DEFAULT_SCOPES,
    response_types_supported: ["code"],
    response_modes_supported: ["query"],
    grant_types_supported: ["authorization_code", "refresh_token", "client_credentials", CHALLENGE_GRANT],
    token_endpoint_auth_methods_supported: ["none", "private_key_jwt"],
    token_endpoint_auth_signing_alg_values_supported: ["EdDSA", "Ed25519", "ES256"],
    revocation_endpoint_auth_methods_supported: ["none", "private_key_jwt"],
    code_challenge_methods_supported: ["S256"],
    // RFC 9207 and draft-ietf-oauth-client-id-metadata-document.
    authorization_response_iss_parameter_supported: true,
    client_id_metadata_document_supported: true,
    // OpenID Connect Discovery §3 requires these two, although this server makes no ID tokens.
    subject_types_supported: ["public"],
    id_token_signing_alg_values_supported: ["EdDSA"],
  };
}
